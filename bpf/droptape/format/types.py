"""The column types of a recording: how one value looks in C, NumPy, Arrow and SQL.

A type says everything about a value once. The C struct, the NumPy record, the Parquet file and the
view are made from it (codegen.c_struct, schema.Table.dtype, schema.Table.arrow_schema,
schema.Table.view_columns). Files keep to integers, strings and fixed binary, because that is what
every engine reads: Spark rejects a file with nanosecond timestamps or unsigned 64-bit columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view: its name, the SQL that makes it, and what it is.

    Both texts may use ``{name}``, the declared column's name. The SQL may use ``t``, the stored
    table, and ``d_{name}``, the dictionary that `Join` brings in.
    """

    name: str
    sql: str
    type: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Join:
    """A dictionary that explains a stored value: ``t.{name} = d_{name}.<key>``."""

    dictionary: str
    key: str


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One logical type.

    Attributes:
        name: its name in a recording's schema.
        c: the C declaration, with ``{name}``; empty for types that never come from the kernel.
        dtype: the NumPy format of the same bytes.
        arrow: the type in files; dictionary types are stored as plain Parquet strings.
        doc: what it is, for docs/FORMAT.md.
        view: the columns a view shows for it.
        join: the dictionary those columns need.
        may_be_empty: a value without content stands for "unknown"; null in files.
    """

    name: str
    c: str
    dtype: str
    arrow: pa.DataType
    doc: str
    view: tuple[ViewColumn, ...]
    join: Join | None = None
    may_be_empty: bool = False


_STRING = pa.dictionary(pa.int32(), pa.string())


def _plain(sql_type: str) -> tuple[ViewColumn, ...]:
    return (ViewColumn("{name}", "t.{name}", sql_type),)


U8 = ColumnType("u8", "__u8 {name}", "u1", pa.int16(), "8-bit count", _plain("SMALLINT"))
U16 = ColumnType("u16", "__u16 {name}", "u2", pa.int32(), "16-bit count", _plain("INTEGER"))
U32 = ColumnType("u32", "__u32 {name}", "u4", pa.int64(), "32-bit count", _plain("BIGINT"))
U64 = ColumnType("u64", "__u64 {name}", "u8", pa.int64(), "64-bit count", _plain("BIGINT"))
I32 = ColumnType("i32", "__s32 {name}", "i4", pa.int32(), "32-bit number", _plain("INTEGER"))
I64 = ColumnType("i64", "__s64 {name}", "i8", pa.int64(), "64-bit number", _plain("BIGINT"))
F64 = ColumnType("f64", "", "f8", pa.float64(), "floating-point number", _plain("DOUBLE"))
BOOL = ColumnType("bool", "__u8 {name}", "u1", pa.bool_(), "true or false", _plain("BOOLEAN"))

MONO = ColumnType(
    "mono",
    "__u64 {name}",
    "u8",
    pa.int64(),
    "CLOCK_MONOTONIC of the recording host. Files hold `ts_ns`, the same instant in UTC, and "
    "`clock_ns`, UTC minus CLOCK_MONOTONIC as last measured: the difference is "
    "stored, and not the instant, because a second exact time would be a quarter of the file",
    (
        ViewColumn("ts", "make_timestamp_ns(t.ts_ns)", "TIMESTAMP_NS", "when it happened, UTC"),
        ViewColumn("{name}", "t.ts_ns - t.clock_ns", "BIGINT"),
    ),
)
WALL = ColumnType(
    "wall",
    "",
    "i8",
    pa.int64(),
    "nanoseconds since 1970-01-01 UTC; the view shows a timestamp",
    (ViewColumn("{name}", "make_timestamp_ns(t.{name}_ns)", "TIMESTAMP_NS"),),
)
ADDRESS = ColumnType(
    "address",
    "__u8 {name}[16]",
    "V16",
    pa.binary(16),
    "16 bytes in network order, IPv4 mapped as ::ffff:a.b.c.d; the view shows text; all zero bytes "
    "with `ip_version` 0 mean unknown",
    (ViewColumn("{name}", "addr_text(t.{name})", "VARCHAR"),),
)
TEXT16 = ColumnType(
    "text16",
    "char {name}[16]",
    "S16",
    _STRING,
    "up to 15 bytes of text from the kernel",
    _plain("VARCHAR"),
    may_be_empty=True,
)
TEXT64 = ColumnType(
    "text64",
    "",
    "S64",
    _STRING,
    "up to 64 bytes of text",
    _plain("VARCHAR"),
    may_be_empty=True,
)
TCP_FLAGS = ColumnType(
    "tcp_flags",
    "__u8 {name}",
    "u1",
    _STRING,
    "flags of a TCP header as text, such as SYN|ACK; null when there is no TCP header",
    _plain("VARCHAR"),
    may_be_empty=True,
)
KSYM = ColumnType(
    "ksym",
    "__u64 {name}",
    "u8",
    pa.int64(),
    "address of kernel code, the 64 bits kept as a signed integer",
    (
        ViewColumn(
            "{name}",
            "'0x' || lower(to_hex(t.{name}))",
            "VARCHAR",
            "the address, hexadecimal",
        ),
        ViewColumn(
            "function", "d_{name}.function", "VARCHAR", "the kernel function that contains it"
        ),
        ViewColumn("offset", 'd_{name}."offset"', "BIGINT", "bytes from the function's start"),
        ViewColumn(
            "module", "d_{name}.module", "VARCHAR", "the kernel module of the function, if any"
        ),
    ),
    Join("locations", "location"),
)
CGROUP = ColumnType(
    "cgroup",
    "__u64 {name}",
    "u8",
    pa.int64(),
    "id of a cgroup (version 2), or a negative number for one of version 1",
    (
        ViewColumn("{name}", "t.{name}", "BIGINT"),
        ViewColumn("cgroup", "d_{name}.path", "VARCHAR", "path of the cgroup, where it was known"),
        ViewColumn(
            "container", "d_{name}.container", "VARCHAR", "container or unit named by the path"
        ),
        ViewColumn(
            "container_name", "d_{name}.name", "VARCHAR", "what the runtime calls the container"
        ),
        ViewColumn("pod", "d_{name}.pod", "VARCHAR", "uid of the Kubernetes pod"),
    ),
    Join("cgroups", "id"),
)
NETNS = ColumnType(
    "netns",
    "__u32 {name}",
    "u4",
    pa.int64(),
    "inode number of a network namespace; null when unknown",
    (
        ViewColumn("{name}", "t.{name}", "BIGINT"),
        ViewColumn(
            "netns_name", "d_{name}.name", "VARCHAR", "name of the namespace, where it has one"
        ),
    ),
    Join("netns", "inum"),
)
ENUM8 = ColumnType(
    "enum8", "__u8 {name}", "u1", _STRING, "a name from a fixed list", _plain("VARCHAR")
)
ENUM32 = ColumnType(
    "enum32", "__u32 {name}", "u4", _STRING, "a name from a fixed list", _plain("VARCHAR")
)
STRING = ColumnType("string", "", "O", pa.string(), "text", _plain("VARCHAR"), may_be_empty=True)

TYPES: dict[str, ColumnType] = {
    t.name: t
    for t in (
        U8, U16, U32, U64, I32, I64, F64, BOOL, MONO, WALL, ADDRESS, TEXT16, TEXT64, TCP_FLAGS,
        KSYM, CGROUP, NETNS, ENUM8, ENUM32, STRING,
    )
}  # fmt: skip
