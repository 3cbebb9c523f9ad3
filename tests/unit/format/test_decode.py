from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.format.decode import FLAG_TEXT, decode, enum_name, rows_to_arrow
from droptape.format.schema import Column, Enum, Table, enum8, enum32
from droptape.format.tables import SYSCTLS, TOTALS
from droptape.format.types import (
    ADDRESS,
    BOOL,
    CGROUP,
    F64,
    I32,
    I64,
    KSYM,
    MONO,
    NETNS,
    TCP_FLAGS,
    TEXT16,
    TEXT64,
    U8,
    U16,
    U32,
    U64,
    ColumnType,
)  # fmt: skip

COLOURS = Enum("colour", {0: "none", 1: "red", 2: "blue", 3: "red"})


def column(kind: ColumnType | Column, values: list[Any]) -> list[Any]:
    """Decode one column of `values`, write it as Parquet, read it back."""
    declared = kind if isinstance(kind, Column) else Column("x", kind, "doc")
    table = Table("t", "", (declared,))
    records = np.zeros(len(values), table.dtype)
    for record, value in zip(records, values, strict=True):
        record["x"] = value
    decoded = decode(table, records, 0)
    decoded.validate(full=True)
    assert decoded.schema.equals(table.arrow_schema)
    file = io.BytesIO()
    pq.write_table(decoded, file)
    read = pq.read_table(file)["x"].to_pylist()
    assert read == decoded["x"].to_pylist()
    return list(read)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (U8, [0, 255], [0, 255]),
        (U16, [0, 65535], [0, 65535]),
        (U32, [0, 2**32 - 1], [0, 2**32 - 1]),
        (U64, [0, 2**63 - 1], [0, 2**63 - 1]),
        (I32, [-5, 2**31 - 1], [-5, 2**31 - 1]),
        (I64, [-(2**63), 7], [-(2**63), 7]),
        (F64, [0.5, -1e300], [0.5, -1e300]),
        (BOOL, [0, 1, 7], [False, True, True]),
        (CGROUP, [2**40], [2**40]),
        (NETNS, [4026531840], [4026531840]),
        (KSYM, [0xFFFFFFFF81000000], [0xFFFFFFFF81000000 - 2**64]),
        (ADDRESS, [bytes(16), bytes(range(16))], [bytes(16), bytes(range(16))]),
        (TEXT16, [b"eth0", b"", b"fifteen-bytes-x"], ["eth0", None, "fifteen-bytes-x"]),
        (TEXT64, [b"x" * 64], ["x" * 64]),
        (TCP_FLAGS, [0, 2, 0x12, 255],
         [None, "SYN", "SYN|ACK", "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR"]),
        (enum8("x", COLOURS, ""), [1, 0, 3, 9], ["red", "none", "red", "9"]),
        (enum8("x", COLOURS, "", null_if=0), [1, 0, 2], ["red", None, "blue"]),
        (enum32("x", Enum("k", {}), "", null_if=0xFFFFFFFF), [70000, 0xFFFFFFFF], ["70000", None]),
        (Column("x", U32, "", null_if=0), [0, 3], [None, 3]),
        (Column("x", U32, "", null_if=0xFFFFFFFF), [0, 0xFFFFFFFF], [0, None]),
        (Column("x", U64, "", null_if=0), [0, 3], [None, 3]),
        (Column("x", U8, "", null_if=0), [0, 3], [None, 3]),
    ],
    ids=lambda v: getattr(v, "name", None),
)  # fmt: skip
def test_every_type(kind: ColumnType | Column, values: list[Any], expected: list[Any]) -> None:
    assert column(kind, values) == expected


def test_bytes_behind_the_end_of_a_name_do_not_count() -> None:
    """Kernels before 5.12 or so leave garbage there: one name, several byte strings."""
    assert column(TEXT16, [b"sh\0x", b"bash", b"sh\0\0y", b"sh", b"\0z"]) == [
        "sh", "bash", "sh", "sh", None,
    ]  # fmt: skip


def test_names_that_are_no_text_stay_readable() -> None:
    assert column(TEXT16, [b"\xff\xfea", "größe".encode()]) == ["\\xff\\xfea", "größe"]


@pytest.mark.parametrize("longest", [1, 3, 8, 400])
@pytest.mark.parametrize("width", [16, 64])
def test_names_that_follow_each_other_or_not(longest: int, width: int) -> None:
    rng = np.random.default_rng(longest)
    # Names that differ in one of their words only, and at its end.
    known = [b"", b"a", b"a" * 8 + b"b", b"a" * 8 + b"c", b"b" * (width - 1), b"b" * width]
    picked = np.repeat(rng.integers(0, len(known), 400), rng.integers(1, longest + 1, 400))
    kind = TEXT16 if width == 16 else TEXT64
    expected = [known[i].decode() or None for i in picked]
    assert column(kind, [known[i] for i in picked]) == expected


def test_no_rows() -> None:
    empty = decode(TOTALS, np.zeros(0, TOTALS.dtype), 5)
    assert (empty.num_rows, empty.schema) == (0, TOTALS.arrow_schema)


@pytest.mark.parametrize("offset", [10**18, np.array([10**18, 10**18 + 7, 10**18])])
def test_times_become_utc(offset: Any) -> None:
    table = Table("t", "", (Column("mono_ns", MONO, "when", "ns"),))
    records = np.zeros(3, table.dtype)
    records["mono_ns"] = [5, 6, 7]
    decoded = decode(table, records, offset)
    clock = np.broadcast_to(offset, 3)
    assert decoded["ts_ns"].to_pylist() == (clock + np.array([5, 6, 7])).tolist()
    assert decoded["clock_ns"].to_pylist() == clock.tolist()


def test_flags_are_in_the_order_of_their_bits() -> None:
    assert len(FLAG_TEXT) == 256
    assert FLAG_TEXT[0x11] == "FIN|ACK"


def test_enum_name() -> None:
    declared = enum8("x", COLOURS, "")
    assert (enum_name(declared, 2), enum_name(declared, 77)) == ("blue", "77")
    with pytest.raises(TypeError, match="not an enum"):
        enum_name(Column("x", U8, ""), 1)


def test_rows_of_a_dictionary() -> None:
    table = rows_to_arrow(SYSCTLS, [{"ts": 12, "name": "a", "value": "1"}, {"netns": 5}])
    assert table.schema.equals(SYSCTLS.arrow_schema)
    assert table.to_pylist() == [
        {"ts_ns": 12, "netns": None, "name": "a", "value": "1"},
        {"ts_ns": None, "netns": 5, "name": None, "value": None},
    ]
    odd = rows_to_arrow(SYSCTLS, [{"name": "a\udcffb", "value": None}, {"name": "é"}])
    assert odd["name"].to_pylist() == [r"a\udcffb", "é"]
    with pytest.raises(TypeError, match="MONO"):
        rows_to_arrow(TOTALS, [{}])
    with pytest.raises(pa.ArrowInvalid):
        rows_to_arrow(SYSCTLS, [{"netns": "text"}])
