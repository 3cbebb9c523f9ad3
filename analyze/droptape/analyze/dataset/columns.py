"""How a view's columns are stored in a dataset: as integers and text that every engine reads.

Addresses and functions are text, not codes that a dictionary explains: text that repeats costs
next to nothing in Parquet, and no engine has to join. Instants are ns since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from droptape.analyze.dictionary import LOCATIONS
from droptape.analyze.engine import name
from droptape.analyze.views import RECORDING, named_columns
from droptape.format.schema import Column, Table
from droptape.format.types import I64, MONO, STRING, ViewColumn

HOST = ViewColumn("host", "", "VARCHAR", "the host that was recorded")
DATE = ViewColumn("date", "", "VARCHAR", "UTC day of the row, or of the start of its recording")
LOCATION_TABLE = Table(
    LOCATIONS,
    "Kernel code that occurs in the recordings, by function.",
    (
        Column("location", STRING, "the address, hexadecimal"),
        Column("function", STRING, "the kernel function that contains it"),
        Column("offset", I64, "bytes from the function's start"),
        Column("module", STRING, "the kernel module of the function, if any"),
    ),
    role="dictionary",
)
ARROW = {
    "BIGINT": pa.int64(), "INTEGER": pa.int32(), "SMALLINT": pa.int16(), "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(), "VARCHAR": pa.string(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column of the view and of the files.

    Attributes:
        view: the column that users see.
        name: the column in the files.
        type: of that, in SQL.
        store: SQL that makes it from a recording's view.
        show: SQL that makes the view's column from the files, with ``t`` for them.
    """

    view: ViewColumn
    name: str
    type: str
    store: str
    show: str


def stored_columns(table: Table) -> list[StoredColumn]:
    """Return how the columns of a table's view are stored."""
    found = []
    for column, view in named_columns(table):
        stored, sql_type = view.name, view.type
        store, show = name(stored), f"t.{name(stored)}"
        if view.type == "TIMESTAMP_NS":
            stored, sql_type = f"{view.name}_ns", "BIGINT"
            store, show = f"epoch_ns({name(view.name)})", f"make_timestamp_ns(t.{name(stored)})"
        elif column.type is MONO:
            stored = "clock_ns"
            store, show = f"epoch_ns(ts) - {name(view.name)}", "t.ts_ns - t.clock_ns"
        found.append(StoredColumn(view, stored, sql_type, store, show))
    text = name(RECORDING.name)
    return [*found, StoredColumn(RECORDING, RECORDING.name, "VARCHAR", text, f"t.{text}")]


def arrow_schema(columns: list[StoredColumn]) -> pa.Schema:
    """Return the columns of the files."""
    return pa.schema([pa.field(c.name, ARROW[c.type]) for c in columns])
