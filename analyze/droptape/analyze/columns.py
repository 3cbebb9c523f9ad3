"""What users may name in ``--by``, and where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from droptape.format.service import port_sql
from droptape.format.types import ADDRESS

from .engine import name
from .errors import QueryError
from .events import NAME, amount, benign

if TYPE_CHECKING:
    from .recording import Recording

_OTHER = frozenset({"kind", "cause", "port"})
ALIASES = {"owner": "owner_comm", "pid": "owner_pid", "interface": "ifname"}


def choose_table(rec: Recording, by: list[str], table: str | None) -> str:
    """Return the table to ask: `table`, else `events` when it has the columns, else the first."""
    if table is not None:
        rec.table(table)
        return table
    for candidate in (NAME, *rec.event_tables, *rec.tables):
        if all(has(rec, candidate, column) for column in by):
            return candidate
    known = sorted({c.name for c in rec.views[NAME].columns} | {"reason", *ALIASES})
    missing = [c for c in by if not any(has(rec, t, c) for t in rec.tables)]
    if missing:
        raise QueryError(f"there is no column {missing[0]}; events have: {', '.join(known)}")
    raise QueryError(f"no table has all of {', '.join(by)}; events have: {', '.join(known)}")


def has(rec: Recording, table: str, column: str) -> bool:
    """Say whether `column`, or what it stands for, is in `table`."""
    return _resolve(rec, table, column) is not None


def expression(rec: Recording, table: str, column: str) -> str:
    """Return the SQL for `column` of the view `raw.<table>`; QueryError when there is none."""
    sql = _resolve(rec, table, column)
    if sql is None:
        columns = ", ".join(c.name for c in rec.views[table].columns)
        raise QueryError(f"{table} has no column {column}; it has: {columns}")
    return sql


def _resolve(rec: Recording, table: str, column: str) -> str | None:
    found = _column(rec, table, column)
    if found is not None:
        return name(found)
    names = column_names(rec, table)
    return port_sql(names) if column == "port" and {"sport", "dport"} <= names else None


def _column(rec: Recording, table: str, column: str) -> str | None:
    names = column_names(rec, table)
    if column in names:
        return column
    if column == "reason":
        declared = rec.views[table].table
        cause = declared.cause if declared is not None and declared.cause in names else "cause"
        return cause if cause in names else None
    target = ALIASES.get(column)
    return target if target in names else None


def counted_as(rec: Recording, table: str, column: str) -> str:
    """Return what a column of `table` is called where events are counted (rollups.py)."""
    found = _column(rec, table, column)
    declared = rec.views[table].table
    if declared is not None and found == declared.cause:
        return "cause"
    if found is None and column == "port":
        return "port"
    # Of another table, these are other columns.
    return found if found is not None and (table == NAME or found not in _OTHER) else ""


def column_names(rec: Recording, table: str) -> frozenset[str]:
    """Return the names of a table's columns."""
    return frozenset(c.name for c in rec.views[table].columns)


def row_amount(rec: Recording, table: str) -> str:
    """Return the SQL of what one row counts for."""
    return "amount" if table == NAME else amount(column_names(rec, table))


def is_address(rec: Recording, column: str) -> bool:
    """Say whether a column holds addresses (16 bytes in the ``raw`` views)."""
    return any(
        declared.type is ADDRESS and declared.name == column
        for view in rec.views.values()
        if view.table is not None
        for declared in view.table
    )


def reading(rec: Recording, table: str, include_benign: bool, by: list[str]) -> str:
    """Return the condition that leaves out benign events, unless they are wanted."""
    told = benign(column_names(rec, table))
    if include_benign or "benign" in by or told == "false":
        return "true"
    return f"{told} IS NOT TRUE"
