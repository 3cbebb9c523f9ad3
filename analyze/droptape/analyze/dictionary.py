"""The dictionaries that explain stored values, and how a view looks them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from droptape.format.tables import TABLES
from droptape.format.types import Join

from .dated import SINCE, Dated, changes
from .engine import literal, name
from .shape import sql_type
from .source import Source

LOCATIONS = "locations"
"""The dictionary of code addresses; not stored, made when a recording is opened."""

_LOCATION_SCHEMA = pa.schema(
    [
        ("location", pa.int64()),
        ("function", pa.string()),
        ("offset", pa.int64()),
        ("module", pa.string()),
    ]
)
_SMALL = 64
"""Up to this many entries a constant map is cheaper than a join, and costs nothing when it is not
used: DuckDB looks it up once for each entry of Parquet's dictionary (measured, ns a row: 64 entries
10, 300 entries 16, 3000 entries 97; a join 17). In rows of journals it is looked up for each (64
entries 68, 300 entries 210)."""


def dictionary_schema(source: Source, join: Join) -> pa.Schema:
    """Return the columns of a dictionary: those the recording declares, and those of this version.

    The views are made by this version's types, which may name a column that the recording's version
    did not have yet.
    """
    if join.dictionary == LOCATIONS:
        return _LOCATION_SCHEMA
    stored = source.tables.get(join.dictionary)
    known = TABLES.get(join.dictionary)
    fields = [*(stored.table.arrow_schema if stored else ())]
    names = {field.name for field in fields}
    fields += [f for f in (known.arrow_schema if known else ()) if f.name not in names]
    return pa.schema(fields)


def missing_columns(source: Source, join: Join) -> list[pa.Field[Any]]:
    """Return the columns of `dictionary_schema` that the recording does not have."""
    declared = set(source.tables[join.dictionary].table.arrow_schema.names)
    return [field for field in dictionary_schema(source, join) if field.name not in declared]


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A dictionary of one recording.

    Attributes:
        table: where it lies, ``r<i>.d_<name>``.
        key: its column that equals the stored value.
        fields: its other columns.
        rows: key first; empty when it is not small.
        small: whether `rows` is all of it.
    """

    table: str
    key: str
    fields: tuple[pa.Field[Any], ...]
    rows: tuple[tuple[Any, ...], ...]
    small: bool

    @classmethod
    def read(
        cls,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        source: Source,
        join: Join,
        *,
        timed: bool,
    ) -> Dictionary | Dated:
        """Read the dictionary that `join` names, for rows that have a time or not."""
        fields = tuple(f for f in dictionary_schema(source, join) if f.name != join.key)
        table = f"{schema}.d_{join.dictionary}"
        if any(f.name == SINCE for f in fields):
            fields = tuple(f for f in fields if f.name != SINCE)
            if changes(connection, table, join.key, fields):
                return Dated.read(connection, table, join.key, fields, _SMALL, timed)
        found = connection.sql(_grouped(table, join.key, fields)).limit(_SMALL + 1).fetchall()
        small = len(found) <= _SMALL
        rows = tuple(row for row in found if row[0] is not None) if small else ()
        return cls(table, join.key, fields, rows, small)

    def join(self, column: str) -> str:
        """Return the join for the stored `column`."""
        grouped = _grouped(self.table, self.key, self.fields)
        return (
            f"LEFT JOIN ({grouped}) AS d_{column} ON d_{column}.{name(self.key)} = t.{name(column)}"
        )

    def lookup(self, column: str, field: str) -> str:
        """Return the value of `field` for the stored `column`; null where it has none.

        Of a small one they are constants: a map for each field, because DuckDB takes one with
        structs apart for every row.
        """
        if not self.small:
            return f"d_{column}.{name(field)}"
        position = next(i for i, f in enumerate(self.fields, start=1) if f.name == field)
        kind = sql_type(self.fields[position - 1])
        if not self.rows:
            return f"NULL::{kind}"
        keys = ", ".join(_value(row[0]) for row in self.rows)
        values = ", ".join(_value(row[position]) for row in self.rows)
        return f"map([{keys}], [{values}]::{kind}[])[t.{name(column)}]"


class Dictionaries:
    """The dictionaries of one recording, each read when it is asked for first."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: str, source: Source) -> None:
        """Take them from the tables ``d_<name>`` of `schema`."""
        self._from = connection, schema, source
        self._known: dict[tuple[Join, bool], Dictionary | Dated] = {}

    def read(self, join: Join, *, timed: bool) -> Dictionary | Dated:
        """Return the dictionary that `join` names, for rows that have a time or not."""
        found = self._known.get((join, timed))
        if found is None:
            found = self._known[join, timed] = Dictionary.read(*self._from, join, timed=timed)
        return found


def _grouped(table: str, key: str, fields: tuple[pa.Field[Any], ...]) -> str:
    picked = "".join(f", any_value({name(f.name)}) AS {name(f.name)}" for f in fields)
    return f"SELECT {name(key)}{picked} FROM {table} GROUP BY {name(key)}"


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else str(value)
