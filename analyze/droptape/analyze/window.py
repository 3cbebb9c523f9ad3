"""Leaving out the rows outside a span of time."""

from __future__ import annotations

from droptape.format.schema import Table

from .engine import name
from .sqlfiles import load
from .times import Window

_HALF_SECOND = 500_000_000


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
    if window is None or "ts_ns" not in table.arrow_schema.names or table.role == "dictionary":
        return sets, ""
    if table.role == "series" and table.cluster:
        keys = ", ".join(name(column) for column in table.cluster)
        start = str(window.start) if window.start is not None else "-9223372036854775807"
        end = str(window.end) if window.end is not None else "9223372036854775807"
        return [f"({load('window_states', rows=rows, keys=keys, start=start, end=end)})"], ""
    counted = table.role == "series" and "clock_ns" in table.arrow_schema.names
    shift = _HALF_SECOND if counted else 0
    conditions = []
    if window.start is not None:
        conditions.append(f"t.ts_ns >= {window.start + shift}")
    if window.end is not None:
        conditions.append(f"t.ts_ns < {window.end + shift}")
    return sets, f"WHERE {' AND '.join(conditions)}" if conditions else ""
