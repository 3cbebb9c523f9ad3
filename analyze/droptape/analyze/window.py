"""Leaving out the rows outside a span of time."""

from __future__ import annotations

from collections.abc import Iterable

from droptape.format.schema import Table

from .engine import name
from .sqlfiles import load
from .times import Window

HALF_SECOND = 500_000_000
_FIRST, _LAST = "-9223372036854775807", "9223372036854775807"


def is_state(table: Table) -> bool:
    """Say whether a row of the table holds until the next one of its key."""
    return table.role == "series" and bool(table.cluster) and "ts_ns" in table.arrow_schema.names


def is_timed(table: Table) -> bool:
    """Say whether rows of the table belong to their time only; dictionaries hold always."""
    return "ts_ns" in table.arrow_schema.names and table.role != "dictionary"


def narrowed(
    table: Table, rows: str, sets: list[str], window: Window | None
) -> tuple[list[str], str]:
    """Return what to read for a table, and the WHERE for it (or "").

    Events are taken by their time. Totals and losses are of the second that ends at their time, so
    half a second is added, which is right to half a second at both ends. Tables that have a row for
    each change begin with what was true at the start. Dictionaries are whole.

    Args:
        table: the declaration.
        rows: a view of all stored rows.
        sets: the same in parts, each readable with pruning by ``ts_ns``.
        window: the span.
    """
    if window is None or not is_timed(table):
        return sets, ""
    if is_state(table):
        return [f"({states(table.arrow_schema.names, table.cluster, rows, window)})"], ""
    return sets, span(table, window)


def states(columns: Iterable[str], keys: Iterable[str], rows: str, window: Window) -> str:
    """Return the rows of a table of states in `window`, and those that held at its start.

    Args:
        columns: all stored columns.
        keys: those that say whose state it is.
        rows: what has all rows.
        window: the span.
    """
    start = str(window.start) if window.start is not None else _FIRST
    end = str(window.end) if window.end is not None else _LAST
    names = list(columns)
    moved = [f"{start}::BIGINT AS ts_ns" if n == "ts_ns" else name(n) for n in names]
    return load(
        "window_states",
        rows=rows,
        keys=", ".join(name(key) for key in keys),
        columns=", ".join(name(n) for n in names),
        moved=", ".join(moved),
        start=start,
        end=end,
    )


def span(table: Table, window: Window) -> str:
    """Return the WHERE that leaves out the rows outside `window`, or "" when it has no bounds."""
    counted = table.role == "series" and "clock_ns" in table.arrow_schema.names
    shift = HALF_SECOND if counted else 0
    conditions = []
    if window.start is not None:
        conditions.append(f"t.ts_ns >= {window.start + shift}")
    if window.end is not None:
        conditions.append(f"t.ts_ns < {window.end + shift}")
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
