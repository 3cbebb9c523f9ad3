"""What is compared: the counts of one side, and what they can be counted per."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from droptape.analyze import columns, events
from droptape.analyze.engine import literal
from droptape.analyze.sqlfiles import load
from droptape.format.tables import TOTALS

from .statistics import Buckets

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

Key = tuple[Any, ...]
"""kind, per, benign, then the values of the columns."""

SCALES = (1, 4, 16, 64, 256, 1024)
"""Lengths of the buckets, in seconds, in which bursts are looked for."""

_PER = """CASE WHEN kind IN ('listen', 'resets') THEN 'connection'
    WHEN kind = 'retransmits' OR protocol = 'TCP' THEN 'segment' ELSE 'second' END"""
_NO_FACTORS = (
    "(SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS cause, false AS benign, 1.0 AS factor "
    "WHERE false)"
)


@dataclass(slots=True)
class Count:
    """The events of one key on one side.

    Attributes:
        events: the best number: exact where the kernel's totals have the columns.
        weight: mean weight of the rows, by events; 1 when nothing was sampled.
        buckets: by length, how the rows spread over time.
    """

    events: float = 0
    weight: float = 1.0
    buckets: dict[int, Buckets] = field(default_factory=dict)


@dataclass(slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: of its recordings.
        seconds: their durations added.
        connections: TCP connections opened, None when that was not recorded.
        segments: TCP segments sent and received, None when that was not recorded.
        counts: events by key.
        kinds: event tables that it has.
        estimated: by kind, the share of events that have no row (sampled out or lost), where the
            counts rest on rows.
    """

    name: str
    seconds: float
    connections: int | None
    segments: int | None
    counts: dict[Key, Count]
    kinds: list[str]
    estimated: dict[str, float]

    def exposure(self, per: str) -> float | None:
        """Return what rates are per: seconds, connections, or million segments."""
        if per == "segment":
            return self.segments / 1e6 if self.segments else None
        if per == "connection":
            return float(self.connections) if self.connections else None
        return self.seconds or None


def side(rec: Recording, by: Sequence[str]) -> Side:
    """Count the events of `rec` by columns; QueryError when one does not exist."""
    counts = _from_rows(rec, by)
    exact = _from_totals(rec, by)
    for key, number in exact.items():
        count = counts.setdefault(key, Count())
        # The rows can be ahead of the totals by a second when a recorder was killed.
        count.events = max(float(number), count.events)
    info, traffic = rec.info(), _traffic(rec)
    return Side(
        ", ".join(one.name for one in info.recordings),
        info.seconds,
        traffic.get("connections"),
        traffic.get("segments"),
        counts,
        rec.event_tables,
        {} if exact else _estimated(rec),
    )


def _expressions(rec: Recording, table: str, by: Sequence[str]) -> str:
    """Return the SQL of the columns, of a view in `raw`, AS k0, k1, …."""
    parts = []
    for number, column in enumerate(by):
        sql = columns.expression(rec, table, column)
        if column == "function":
            # Clones by the compiler (.isra.0, .constprop.1, .cold) differ between kernels.
            sql = "split_part(function, '.', 1)"
        elif column == "netns":
            sql = "coalesce(netns_name, netns::VARCHAR)"
        elif columns.is_address(rec, column):
            sql = f"addr_text({sql})"
        parts.append(f"({sql})::VARCHAR AS k{number}")
    return ", ".join(parts)


def _groups(by: Sequence[str]) -> str:
    return ", ".join(f"k{number}" for number in range(len(by)))


def _from_totals(rec: Recording, by: Sequence[str]) -> dict[Key, int]:
    """Return exact counts, nothing when the totals lack one of the columns."""
    if TOTALS.name not in rec.views or not all(columns.has(rec, TOTALS.name, c) for c in by):
        return {}
    sql = load("diff_exact", keys=_expressions(rec, TOTALS.name, by), groups=_groups(by), per=_PER)
    rows = rec.database.ask(sql).fetchall()
    return {row[:-1]: row[-1] for row in rows}


def _from_rows(rec: Recording, by: Sequence[str]) -> dict[Key, Count]:
    recordings = rec.info().recordings
    spans = ", ".join(
        f"({literal(one.name)}, {one.started_ns or 0}::BIGINT, {int(one.seconds)}::BIGINT)"
        for one in recordings
    )
    sql = load(
        "diff_rows",
        keys=_expressions(rec, events.NAME, by),
        groups=_groups(by),
        per=_PER,
        spans=f"(VALUES {spans})",
        factors=f"({load('diff_factors')})" if TOTALS.name in rec.views else _NO_FACTORS,
        scales=f"(VALUES {', '.join(f'({n})' for n in SCALES)})",
    )
    number = {n: sum(int(one.seconds) // n for one in recordings) for n in SCALES}
    counts: dict[Key, Count] = {}
    width = 3 + len(by)
    for row in rec.database.ask(sql).fetchall():
        length, amount, raw, weighed, whole, squares = row[width:]
        count = counts.setdefault(row[:width], Count(amount, max(weighed / raw, 1.0) if raw else 1))
        if number[length] >= 2:
            count.buckets[length] = Buckets(number[length], whole, squares)
    return counts


def _traffic(rec: Recording) -> dict[str, int]:
    found: dict[str, int] = {}
    if "counters" in rec.views:
        sql = load("diff_traffic", lives=load("books_lives"))
        moved = dict(rec.database.ask(sql).fetchall())
        if moved:
            found["connections"] = moved.get("Tcp.ActiveOpens", 0) + moved.get(
                "Tcp.PassiveOpens", 0
            )
            found["segments"] = moved.get("Tcp.InSegs", 0) + moved.get("Tcp.OutSegs", 0)
    if "connections" not in found and "connections" in rec.views:
        (found["connections"],) = rec.database.ask("SELECT count(*) FROM connections").fetchall()[0]
    return found


def _estimated(rec: Recording) -> dict[str, float]:
    if TOTALS.name not in rec.views:
        return {}
    sql = (
        f"SELECT kind, sum(greatest(exact - recorded, 0)) / sum(exact) FROM "
        f"({load('diff_factors')}) WHERE NOT benign AND exact > 0 GROUP BY kind"
    )
    return {kind: share for kind, share in rec.database.ask(sql).fetchall() if share > 0.001}


def losses(rec: Recording) -> dict[str, int]:
    """Return the events that could not be recorded or were sampled out, by kind and cause."""
    if "losses" not in rec.views:
        return {}
    sql = (
        "SELECT kind || ' (' || replace(cause, '_', ' ') || ')', sum(events)::BIGINT FROM losses "
        "WHERE cause IN ('ring_full', 'map_full', 'disk_full', 'sampled', 'recursion') "
        "GROUP BY 1 ORDER BY 2 DESC"
    )
    return dict(rec.database.ask(sql).fetchall())
