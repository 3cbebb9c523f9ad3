"""Counting events by the values of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb

from . import columns, rollups
from .engine import name
from .errors import QueryError
from .events import NAME
from .sqlfiles import load

if TYPE_CHECKING:
    from .recording import Recording


def split(by: str | Sequence[str]) -> list[str]:
    """Return the columns of `by`, a list or names with commas between."""
    parts = by.split(",") if isinstance(by, str) else list(by)
    names = [part.strip() for part in parts if part.strip()]
    if not names:
        raise QueryError("name at least one column to count by, such as reason")
    return list(dict.fromkeys(names))


def _usual(rec: Recording, table: str | None) -> list[str]:
    """Return what is counted by unless users say: the cause, and the function where there is one.

    Raises:
        QueryError: there is no such table, or it has neither.
    """
    if table is None:
        return ["reason", "function"]
    rec.table(table)
    declared = rec.views[table].table
    cause = declared.cause if declared is not None and declared.cause else "reason"
    found = [column for column in (cause, "function") if columns.has(rec, table, column)]
    if not found:
        known = ", ".join(column.name for column in rec.views[table].columns)
        raise QueryError(f"{table} has no causes: name what to count by, of {known}")
    return found


def top(
    rec: Recording,
    by: str | Sequence[str] | None,
    *,
    table: str | None,
    limit: int,
    include_benign: bool,
) -> duckdb.DuckDBPyRelation:
    """See `Recording.top`."""
    wanted = split(by) if by is not None else _usual(rec, table)
    chosen = columns.choose_table(rec, wanted, table)
    if chosen == NAME and {"reason", "cause"} & set(wanted) and "kind" not in wanted:
        wanted.insert(0, "kind")  # a cause says little without its kind
    found = [columns.expression(rec, chosen, column) for column in wanted]
    counted = [columns.counted_as(rec, chosen, column) for column in wanted]
    asked = rollups.ask(rec, counted, chosen)
    keys, labels = [], []
    for number, column in enumerate(wanted):
        sql = name(counted[number]) if asked.counted else found[number]
        keys.append(f"{sql} AS k{number}")
        # Text is made for the groups that are shown, not for every row.
        shown = f"addr_text(k{number})" if columns.is_address(rec, column) else f"k{number}"
        labels.append(f"{shown} AS {name(column)}")
    timed = "ts" in columns.column_names(rec, chosen)
    since, until = ("ts", "ts") if timed else ("NULL::TIMESTAMP_NS",) * 2
    if asked.counted:
        since, until = (f"make_timestamp_ns({ns})" for ns in (asked.since, asked.until))
    sql = load(
        "top",
        keys=", ".join(keys),
        groups=", ".join(f"k{number}" for number in range(len(keys))),
        order=", ".join(f"k{number} NULLS LAST" for number in range(len(keys))),
        labels=", ".join(labels),
        amount="amount" if asked.counted else columns.row_amount(rec, chosen),
        number=asked.number,
        since=since,
        until=until,
        table=asked.rows,
        condition=columns.reading(rec, NAME if asked.counted else chosen, include_benign, wanted),
        limit=str(int(limit)),
    )
    return rec.database.ask(sql)
