"""Tables of a recording, declared as data.

`Table` is the one definition of a table. Event kinds (droptape.bpf.kinds) and the tables that
explain them (tables.py) are written in it, and a recording carries its own copy (`Table.to_json`),
so that it can be read without the program that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from .errors import FormatError
from .types import ENUM8, ENUM32, MONO, TYPES, WALL, ColumnType, ViewColumn

Role = Literal["events", "series", "dictionary"]


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def _identifier(name: Any) -> str:
    """Return a name that may stand in SQL: a recording can come from anybody."""
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        raise FormatError(f"{str(name)[:80]!a} is no name for a table or column")
    return name


@dataclass(frozen=True, slots=True)
class Enum:
    """Numbers and their names.

    Attributes:
        name: identifies it; C constants are ``<NAME>_<MEMBER>``.
        values: number to name. Empty for enums of the kernel until `Table.with_enums`.
        kernel: the kernel enum in BTF that holds the names, or "" when the numbers are ours.
    """

    name: str
    values: Mapping[int, str] = field(default_factory=dict)
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One declared column.

    Attributes:
        name: the field in C, the column in files and views.
        type: see types.py.
        doc: what the value means and where the kernel keeps it.
        unit: the unit, or "" where there is none.
        null_if: the stored number that stands for "unknown"; null in files.
        enum: for ENUM8 and ENUM32, the names.
    """

    name: str
    type: ColumnType
    doc: str
    unit: str = ""
    null_if: int | None = None
    enum: Enum | None = None

    @property
    def can_be_unknown(self) -> bool:
        """Whether some record of the kernel has null here."""
        return self.null_if is not None or self.type.may_be_empty

    def to_json(self) -> dict[str, Any]:
        """Return the column as JSON values."""
        out: dict[str, Any] = {"name": self.name, "type": self.type.name, "doc": self.doc}
        if self.unit:
            out["unit"] = self.unit
        if self.null_if is not None:
            out["null_if"] = self.null_if
        if self.enum is not None:
            out["enum"] = {
                "name": self.enum.name,
                "kernel": self.enum.kernel,
                "values": {str(number): name for number, name in self.enum.values.items()},
            }
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        """Read what `to_json` wrote; FormatError for a type this program does not know."""
        try:
            kind = TYPES[data["type"]]
        except KeyError as exc:
            raise FormatError(
                f"column {data.get('name')!r} has the unknown type {data.get('type')!r}: "
                "the recording comes from a newer droptape, update this one"
            ) from exc
        enum = data.get("enum")
        return cls(
            name=_identifier(data["name"]),
            type=kind,
            doc=str(data.get("doc", "")),
            unit=str(data.get("unit", "")),
            null_if=data.get("null_if"),
            enum=None
            if enum is None
            else Enum(
                enum["name"],
                {int(number): str(name) for number, name in enum["values"].items()},
                enum.get("kernel", ""),
            ),
        )


def _fields(column: Column) -> list[pa.Field[Any]]:
    """Return the columns of a file that a declared column becomes."""
    if column.type is MONO:
        utc = {"doc": f"{column.doc}, UTC since 1970-01-01", "unit": "ns"}
        clock = {"doc": "UTC minus CLOCK_MONOTONIC of the recorded host", "unit": "ns"}
        return [
            pa.field("ts_ns", pa.int64(), metadata=utc),
            pa.field("clock_ns", pa.int64(), metadata=clock),
        ]
    name = f"{column.name}_ns" if column.type is WALL else column.name
    meta = {"doc": column.doc, "unit": column.unit}
    return [pa.field(name, column.type.arrow, metadata=meta)]


@dataclass(frozen=True)
class Table:
    """One table of a recording.

    Attributes:
        name: folder in the recording and name of the view.
        doc: what a row is.
        columns: in the order of the kernel's record.
        role: ``events`` and ``series`` are appended to while recording; a ``dictionary`` is
            written when its content is known.
        cause: the column that says why, for an event table; names the key of its totals.
        noun: the word for one row in live output, for an event table.
        cluster: columns that rows are sorted by inside a row group, so that equal values meet.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    role: Role = "events"
    cause: str = ""
    noun: str = ""
    cluster: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Column]:
        """Iterate over the columns."""
        return iter(self.columns)

    def __getitem__(self, name: str) -> Column:
        """Return the column called `name`; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The record as NumPy sees it: C's natural alignment, size a multiple of 8 bytes."""
        aligned = np.dtype([(c.name, c.type.dtype) for c in self.columns], align=True)
        size = (aligned.itemsize + 7) // 8 * 8
        fields = cast(Mapping[str, Any], aligned.fields)
        return np.dtype(
            {
                "names": list(aligned.names or ()),
                "formats": [fields[n][0] for n in aligned.names or ()],
                "offsets": [fields[n][1] for n in aligned.names or ()],
                "itemsize": size,
            }
        )

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The columns of the files, each with its doc and unit as metadata."""
        return pa.schema([f for column in self.columns for f in _fields(column)])

    @cached_property
    def record_schema(self) -> pa.Schema:
        """`arrow_schema` for rows that were records of the kernel.

        Columns that are never unknown are declared so, which saves a reader looking for nulls.
        """
        never = {f.name for c in self.columns if not c.can_be_unknown for f in _fields(c)}
        return pa.schema([f.with_nullable(f.name not in never) for f in self.arrow_schema])

    def view_columns(self) -> list[ViewColumn]:
        """The columns of the view, in order, with every ``{name}`` filled in."""
        return [
            ViewColumn(
                view.name.format(name=column.name),
                view.sql.format(name=column.name),
                view.type,
                view.doc or column.doc,
            )
            for column in self.columns
            for view in column.type.view
        ]

    def with_enums(self, enums: Mapping[str, Mapping[int, str]]) -> Table:
        """Return the table with the names of the running kernel's enums filled in.

        Args:
            enums: for each kernel enum, number to name. One that is missing stays empty, and its
                values are then stored as numbers.
        """

        def fill(column: Column) -> Column:
            if column.enum is None or not column.enum.kernel:
                return column
            values = dict(enums.get(column.enum.kernel, {}))
            return replace(column, enum=replace(column.enum, values=values))

        return replace(self, columns=tuple(fill(c) for c in self.columns))

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as JSON values."""
        return {
            "name": self.name,
            "doc": self.doc,
            "role": self.role,
            "cause": self.cause,
            "noun": self.noun,
            "cluster": list(self.cluster),
            "columns": [c.to_json() for c in self.columns],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Table:
        """Read what `to_json` wrote; FormatError when something is missing."""
        try:
            return cls(
                name=_identifier(data["name"]),
                doc=str(data["doc"]),
                columns=tuple(Column.from_json(c) for c in data["columns"]),
                role=data["role"],
                cause=str(data["cause"]),
                noun=str(data["noun"]),
                cluster=tuple(data["cluster"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise FormatError(f"the declaration of a table is damaged ({exc!r})") from exc


def enum8(name: str, values: Enum, doc: str, null_if: int | None = None) -> Column:
    """Declare a column of one byte that holds a member of `values`."""
    return Column(name, ENUM8, doc, enum=values, null_if=null_if)


def enum32(name: str, values: Enum, doc: str, null_if: int | None = None) -> Column:
    """Declare a column of four bytes that holds a member of `values`."""
    return Column(name, ENUM32, doc, enum=values, null_if=null_if)


def numbered(name: str, *members: str) -> Enum:
    """Make an enum of ours, numbered from 0."""
    return Enum(name, dict(enumerate(members)))


def by_name(tables: Iterable[Table]) -> dict[str, Table]:
    """Index tables by name; ValueError when two share one."""
    out: dict[str, Table] = {}
    for table in tables:
        if table.name in out:
            raise ValueError(f"two tables are called {table.name}")
        out[table.name] = table
    return out
