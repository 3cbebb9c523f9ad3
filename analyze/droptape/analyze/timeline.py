"""Counting events over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from droptape.format.layout import IMPORTED

from . import columns, rollups
from .durations import nanoseconds
from .engine import literal, name
from .errors import QueryError
from .events import NAME
from .sqlfiles import load

if TYPE_CHECKING:
    from .recording import Recording

_NICE = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of ms; longer ones are below
_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_OWN = {"start", "offset", "events", "failed", "p50_ms", "p90_ms", "p99_ms", "max_ms"}
BUCKETS = 60
"""Buckets that ``auto`` aims at: what fits beside a label in 80 columns."""


def automatic(span_ns: int) -> int:
    """Return the shortest round bucket, in ns, that divides `span_ns` into at most `BUCKETS`."""
    for width in (*(n * 1_000_000 for n in _NICE), *(n * 1_000_000_000 for n in _NICE_SECONDS)):
        if span_ns < width * BUCKETS:
            return width
    day = 86_400_000_000_000
    return -(-span_ns // (BUCKETS * day)) * day


def bucket_width(rec: Recording, bucket: str) -> int:
    """Return the bucket in ns that `bucket` means for this recording."""
    if bucket != "auto":
        width = nanoseconds(bucket)
        if width <= 0:
            raise QueryError("a bucket must be longer than nothing")
        return width
    start, end = rec.info().span_ns
    return automatic(max(end - start, 1))


def timeline(
    rec: Recording,
    *,
    bucket: str,
    by: str | None,
    table: str | None,
    include_benign: bool,
    beside: str | None = None,
) -> duckdb.DuckDBPyRelation:
    """See `Recording.timeline`."""
    if by is None:
        declared = rec.views[table].table if table in rec.views else None
        by = "kind" if table in (None, NAME) else declared.cause if declared else ""
        by = by or "recording"
    # A column of the recording may be called as one of the answer.
    label = f"{by}_of_event" if by.lower() in _OWN else by
    chosen = columns.choose_table(rec, [by, "ts"], table)
    key = columns.expression(rec, chosen, by)
    width, origin = bucket_width(rec, bucket), rec.info().origin_ns
    counted = columns.counted_as(rec, chosen, by)
    asked = rollups.ask(rec, [counted], chosen, origin_ns=origin, width_ns=width)
    sql = load(
        "timeline",
        key=name(counted) if asked.counted else key,
        label="addr_text(k)" if columns.is_address(rec, by) else "k",
        by=name(label),
        amount="amount" if asked.counted else columns.row_amount(rec, chosen),
        moment=asked.moment,
        table=asked.rows,
        condition=columns.reading(rec, NAME if asked.counted else chosen, include_benign, [by]),
        width=str(width),
        origin=str(origin),
    )
    if beside is not None:
        sql = load(
            "timeline_beside",
            events=sql,
            by=name(label),
            label=literal(beside),
            load=name(imported(rec, beside)),
            width=str(width),
            origin=str(origin),
        )
    return rec.database.ask(sql)


def imported(rec: Recording, table: str) -> str:
    """Return the full name of an imported table, given with or without its prefix."""
    for candidate in (table, IMPORTED + table):
        if candidate in rec.views and candidate.startswith(IMPORTED):
            return candidate
    having = [t.removeprefix(IMPORTED) for t in rec.tables if t.startswith(IMPORTED)]
    known = f"there are: {', '.join(having)}" if having else "droptape import makes one"
    raise QueryError(f"there is no imported table {table}; {known}")
