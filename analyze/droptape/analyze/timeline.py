"""Counting events over time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from . import columns
from .engine import name
from .errors import QueryError
from .events import NAME
from .sqlfiles import load

if TYPE_CHECKING:
    from .recording import Recording

_UNITS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "min": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000,
}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_NICE = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of ms; longer ones are below
_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
BUCKETS = 60
"""Buckets that ``auto`` aims at: what fits beside a label in 80 columns."""


def nanoseconds(text: str) -> int:
    """Read a duration such as ``100ms``, ``1s`` or ``5m``; QueryError when it is none."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise QueryError(f"{text!r} is not a duration; write 100ms, 1s, 5m or 1h")
    value = round(float(match[1]) * _UNITS[match[2].lower()])
    if value <= 0:
        raise QueryError("a bucket must be longer than nothing")
    return value


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
        return nanoseconds(bucket)
    start, end = rec.info().span_ns
    return automatic(max(end - start, 1))


def timeline(
    rec: Recording, *, bucket: str, by: str | None, table: str | None, include_benign: bool
) -> duckdb.DuckDBPyRelation:
    """See `Recording.timeline`."""
    if by is None:
        declared = rec.views[table].table if table in rec.views else None
        by = "kind" if table in (None, NAME) else declared.cause if declared else ""
        by = by or "recording"
    chosen = columns.choose_table(rec, [by, "ts"], table)
    key = columns.expression(rec, chosen, by)
    sql = load(
        "timeline",
        key=key,
        label="addr_text(k)" if columns.is_address(rec, by) else "k",
        by=name(by),
        amount=columns.row_amount(rec, chosen),
        table=f"raw.{name(chosen)}",
        condition=columns.reading(rec, chosen, include_benign, [by]),
        width=str(bucket_width(rec, bucket)),
        origin=str(rec.info().span_ns[0]),
    )
    return rec.connection.sql(sql)
