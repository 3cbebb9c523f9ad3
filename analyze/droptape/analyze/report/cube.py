"""What the pictures of a report are counted from: events by time and by everything they tell apart.

It is small whatever the recording's size: there are so many buckets of time and so many groups at
most. What does not fit is put together by kind and cause, and the report says how much that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from droptape.analyze.engine import name
from droptape.analyze.plain import printable
from droptape.analyze.sqlfiles import load
from droptape.analyze.timeline import BUCKETS, automatic

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

MAX_GROUPS = 400
MAX_REST = 60
"""Groups, and kinds and causes that the others are put together by."""
MAX_CELLS = 60_000
LONGEST = 120
"""Characters of a name."""
FINER = 4
"""How many times more buckets than a terminal's timeline has."""

DIMENSIONS: dict[str, str] = {
    "recording": "recording",
    "kind": "kind",
    "cause": "cause",
    "function": "function",
    "process": "owner_comm",
    "pid": "owner_pid",
    "container": "container",
    "port": "port",
    "namespace": "coalesce(netns_name, netns::VARCHAR)",
    "device": "ifname",
}
"""Names of the dimensions and their SQL over `raw.events`."""

REST = "(others)"
"""Stands in a group for what was put together."""


@dataclass(frozen=True, slots=True)
class Group:
    """One combination: the values of `DIMENSIONS`, and its events by bucket."""

    values: tuple[Any, ...]
    buckets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Cube:
    """Events by group and time.

    Attributes:
        origin_ns: where bucket 0 begins, ns since 1970.
        width_ns: of a bucket.
        count: how many buckets there are.
        groups: the most frequent combinations, then what the others were put together to.
        found: how many combinations the recording has.
        shown: how many of them are told apart.
        total: events in rows, by their weights, without those of normal operation.
        together: how many of the events were put together.
    """

    origin_ns: int
    width_ns: int
    count: int
    groups: list[Group]
    found: int
    shown: int
    total: int
    together: int

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script reads; buckets as differences, which are short."""
        groups = []
        for group in self.groups:
            at, steps, events = 0, [], []
            for bucket, amount in group.buckets:
                steps.append(bucket - at)
                events.append(amount)
                at = bucket
            groups.append({"d": list(map(_shown, group.values)), "b": steps, "n": events})
        return {
            "origin": self.origin_ns / 1e6,
            "width": self.width_ns / 1e6,
            "count": self.count,
            "dimensions": list(DIMENSIONS),
            "groups": groups,
        }


def cube(rec: Recording) -> Cube:
    """Count the events of `rec`."""
    names = ", ".join(map(name, DIMENSIONS))
    dimensions = ", ".join(f"{sql} AS {name(n)}" for n, sql in DIMENSIONS.items())
    parts = {"dimensions": dimensions, "names": names}
    found = rec.connection.sql(
        load("report_groups", **parts, limit=str(MAX_GROUPS))
    ).to_arrow_table()
    rows = found.to_pylist()
    start, end = rec.info().span_ns
    zero = start
    if rows:
        # Events of before the start that was written down can come in, by a little.
        start = min(start or rows[0]["first_ns"], rows[0]["first_ns"])
        end = max(end, rows[0]["last_ns"] + 1)
    width = _width(max(end - start, 1), len(rows))
    start = zero - -(-(zero - start) // width) * width if start < zero else start
    ids = found.select(list(DIMENSIONS)).append_column("id", pa.array(range(len(rows)), pa.int64()))
    same = " AND ".join(f"k.{name(n)} IS NOT DISTINCT FROM g.{name(n)}" for n in DIMENSIONS)
    sql = load("report_cells", **parts, same=same, origin=str(start), width=str(width))
    rec.connection.register("report_groups", ids)
    try:
        cells = rec.connection.sql(sql).fetchall()
    finally:
        rec.connection.unregister("report_groups")
    count = max((end - start - 1) // width, 0) + 1
    groups = [Group(tuple(row[n] for n in DIMENSIONS), []) for row in rows]
    rest: dict[tuple[str, str | None], dict[int, int]] = {}
    for number, kind, cause, bucket, events in cells:
        if number is not None:
            groups[number].buckets.append((bucket, events))
        else:
            counts = rest.setdefault(_rest_key(rest, kind, cause), {})
            counts[bucket] = counts.get(bucket, 0) + events
    together = sum(sum(counts.values()) for counts in rest.values())
    groups += [Group(_rest(*key), sorted(counts.items())) for key, counts in rest.items()]
    total = rows[0]["total"] if rows else 0
    seen = rows[0]["found"] if rows else 0
    return Cube(start, width, count, groups, seen, len(rows), total, together)


def _shown(value: Any) -> Any:
    return printable(value)[:LONGEST] if isinstance(value, str) else value


def _width(span_ns: int, groups: int) -> int:
    finer = max(1, min(FINER, MAX_CELLS // (BUCKETS * max(groups, 1))))
    return automatic(max(span_ns // finer, 1))


def _rest_key(
    rest: dict[tuple[str, str | None], Any], kind: str, cause: str | None
) -> tuple[str, str | None]:
    key = (kind, cause)
    return key if key in rest or len(rest) < MAX_REST else (kind, REST)


def _rest(kind: str, cause: str | None) -> tuple[Any, ...]:
    known = {"kind": kind, "cause": cause}
    return tuple(known.get(n, None if n == "pid" else REST) for n in DIMENSIONS)
