"""A dictionary whose keys mean something else from a time on.

The kernel gives the number of a namespace that is gone to another. Rows get what their number meant
at their time, and nothing where that is not known: unknown is better than wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from .engine import literal, name
from .shape import sql_type

SINCE = "since_ns"
"""The column that says from when on a row of a dictionary holds; null from the start."""
_START = -(2**63)
# No column of a recording can be called like these, which are no identifiers (schema.py).
_BEFORE, _KEY, _FROM, _LIVES = '"the lives before"', '"the key"', '"from when"', '"all lives"'


@dataclass(frozen=True, slots=True)
class Dated:
    """Such a dictionary of one recording.

    Attributes:
        table: where it lies.
        key: its column that equals the stored value.
        fields: its other columns, without `SINCE`.
        rows: of `_grouped`; empty when it is not small.
        small: whether `rows` is all of it.
        timed: whether the rows that it explains have a time.
    """

    table: str
    key: str
    fields: tuple[pa.Field[Any], ...]
    rows: tuple[tuple[Any, ...], ...]
    small: bool
    timed: bool

    @classmethod
    def read(
        cls,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        key: str,
        fields: tuple[pa.Field[Any], ...],
        most: int,
        timed: bool,
    ) -> Dated:
        """Read it; with more than `most` keys it is not small."""
        found = connection.sql(_grouped(table, key, fields)).limit(most + 1).fetchall()
        small = len(found) <= most
        rows = tuple(row for row in found if row[0] is not None) if small else ()
        return cls(table, key, fields, rows, small, timed)

    def join(self, column: str) -> str:
        """Return the join for the stored `column`."""
        grouped = _grouped(self.table, self.key, self.fields)
        on = f"d_{column}.{name(self.key)} = t.{name(column)}"
        return f"LEFT JOIN ({grouped}) AS d_{column} ON {on}"

    def lookup(self, column: str, field: str) -> str:
        """Return the value of `field` for the stored `column`; null where it has none."""
        if self.small:
            return self._constants(column, field)
        d = f"d_{column}"
        if not self.timed:
            return f"CASE WHEN {d}.{_BEFORE} IS NULL THEN {d}.{name(field)} END"
        return (
            f"CASE WHEN t.ts_ns >= {d}.{SINCE} THEN {d}.{name(field)} ELSE list_filter("
            f"{d}.{_BEFORE}, lambda b: b.{SINCE} <= t.ts_ns)[-1].{name(field)} END"
        )

    def _constants(self, column: str, field: str) -> str:
        position = next(i for i, f in enumerate(self.fields, start=2) if f.name == field)
        kind = sql_type(self.fields[position - 2])
        stored = f"t.{name(column)}"
        rows = [row for row in self.rows if self.timed or row[-1] is None]
        if not rows:
            return f"NULL::{kind}"
        keys = ", ".join(_value(row[0]) for row in rows)
        values = ", ".join(_value(row[position]) for row in rows)
        last = f"map([{keys}], [{values}]::{kind}[])[{stored}]"
        if not self.timed:
            return last
        since = f"map([{keys}], [{', '.join(str(row[1]) for row in rows)}]::BIGINT[])[{stored}]"
        before = "".join(
            f" WHEN {stored} = {_value(row[0])} AND t.ts_ns >= {life[SINCE]}"
            f" THEN {_value(life[field])}"
            for row in rows
            for life in reversed(row[-1] or ())
        )
        return f"CASE WHEN t.ts_ns >= {since} THEN {last}{before} END"


def changes(
    connection: duckdb.DuckDBPyConnection, table: str, key: str, fields: tuple[pa.Field[Any], ...]
) -> bool:
    """Say whether any key needs to be looked up by time."""
    several = "".join(f" OR count(DISTINCT {name(f.name)}) > 1" for f in fields)
    asked = f"SELECT 1 FROM {table} GROUP BY {name(key)} HAVING count({SINCE}) > 0{several} LIMIT 1"
    return bool(connection.sql(asked).fetchall())


def _grouped(table: str, key: str, fields: tuple[pa.Field[Any], ...]) -> str:
    """Return a row for each key: what it means at last, since when, and what before.

    Two meanings from the same time on are none.
    """
    names = [name(f.name) for f in fields]
    one = "".join(
        f", CASE WHEN count(DISTINCT {n}) = 1 THEN any_value({n}) END AS {n}" for n in names
    )
    life = "".join(f", {n} := {n}" for n in names)
    last = "".join(f", {_LIVES}[-1].{n} AS {n}" for n in names)
    lives = (
        f"SELECT {name(key)} AS {_KEY}, "
        f"coalesce(TRY_CAST({SINCE} AS BIGINT), {_START}) AS {_FROM}{one} "
        f"FROM {table} GROUP BY {name(key)}, {_FROM}"
    )
    packed = (
        f"SELECT {_KEY}, list(struct_pack({SINCE} := {_FROM}{life}) ORDER BY {_FROM}) AS {_LIVES} "
        f"FROM ({lives}) GROUP BY {_KEY}"
    )
    return (
        f"SELECT {_KEY} AS {name(key)}, {_LIVES}[-1].{SINCE} AS {SINCE}{last}, "
        f"CASE WHEN len({_LIVES}) > 1 THEN {_LIVES}[:-2] END AS {_BEFORE} FROM ({packed})"
    )


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else str(value)
