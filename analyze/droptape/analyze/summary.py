"""The answer in one screen, as data; render/summary.py lays it out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import rollups
from .engine import listed
from .info import Info
from .marks import marks_of
from .sqlfiles import load
from .timeline import automatic
from .times import Mark
from .verify import Finding, quick_look

if TYPE_CHECKING:
    from .recording import Recording

ROWS = 8
"""Causes and owners that fit on one screen."""

_SCAN = "summary_scan"
_CAUSES = ("kind", "cause", "function", "benign")
_OWNERS = ("kind", "cause", "benign", "owner_comm", "owner_pid", "port", "container")
_NO_TOTALS = (
    "SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS cause, NULL::VARCHAR AS function, "
    "false AS benign, 0 AS events, 0 AS recorded WHERE false"
)
_NO_LOSSES = "SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS cause, 0 AS events WHERE false"


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened, why, to whom, since when, and what is lost.

    Attributes:
        info: the recordings.
        kinds: per event table: kind, noun, events (exact), per_second, recorded, benign, lost,
            unaccounted, since_ns, until_ns, buckets (events per bucket of `bucket_ns`).
        causes: kind, cause, function, events, share (percent of its kind), since_ns, until_ns.
        cause_count: how many causes there are; `causes` holds the most frequent.
        owners: owner, pid, port, container, events, kinds, cause (the most frequent), since_ns,
            until_ns.
        owner_count: how many there are.
        losses: kind, cause, events.
        bucket_ns: width of a bucket, ns.
        unbalanced: where the kernel's own counters say something else; a coarse look, `verify` has
            the exact one.
        marks: what users wrote into the recordings while they were made.
        unchecked: files that were not compared with their checksums.
    """

    info: Info
    kinds: list[dict[str, Any]]
    causes: list[dict[str, Any]]
    cause_count: int
    owners: list[dict[str, Any]]
    owner_count: int
    losses: list[dict[str, Any]]
    bucket_ns: int
    unbalanced: list[Finding]
    marks: list[Mark]
    unchecked: int = 0

    @property
    def events(self) -> int:
        """All events that are not part of normal operation."""
        return sum(kind["events"] for kind in self.kinds)

    @property
    def benign(self) -> int:
        """Drops that are part of normal operation."""
        return sum(kind["benign"] for kind in self.kinds)

    @property
    def unaccounted(self) -> int:
        """Events that were counted but are neither recorded nor reported lost."""
        return sum(kind["unaccounted"] for kind in self.kinds)

    @property
    def completeness(self) -> tuple[str, bool]:
        """A sentence on the counts, "" where losses say it all, and whether it is good news."""
        if self.losses or self.unaccounted:
            return "", False
        if self.info.problems or any(one.state == "unknown" for one in self.info.recordings):
            return (
                "No loss is known of, but not everything could be read: there may be more.",
                False,
            )
        if self.unchecked:
            return f"No loss is known of. {self.info.not_compared}", True
        return "Nothing was lost: the counts above are exact.", True

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "recordings": self.info.to_json()["recordings"],
            "seconds": self.info.seconds,
            "events": self.events,
            "benign": self.benign,
            "kinds": self.kinds,
            "causes": self.causes,
            "cause_count": self.cause_count,
            "owners": self.owners,
            "owner_count": self.owner_count,
            "losses": self.losses,
            "bucket_ns": self.bucket_ns,
            "unbalanced": [asdict(finding) for finding in self.unbalanced],
            "marks": [asdict(mark) for mark in self.marks],
            "problems": self.info.problems,
        }


def summarize(rec: Recording) -> Summary:
    """See `Recording.summary`."""
    info = rec.info()
    start, end = info.span_ns
    width = automatic(max(end - start, 1))
    origin = rollups.begin(rec, start, width)
    over_time = rollups.ask(rec, _CAUSES, origin_ns=origin, width_ns=width)
    by_owner = rollups.ask(rec, _OWNERS)
    parts = {
        "totals": "totals" if "totals" in rec.views else f"({_NO_TOTALS})",
        "losses": "losses" if "losses" in rec.views else f"({_NO_LOSSES})",
        "kinds": f"({listed('kind', rec.event_tables)})",
        "origin": str(origin),
        "width": str(width),
        "limit": str(ROWS),
    }

    def rows(file: str, **more: str) -> list[dict[str, Any]]:
        found = rec.database.ask(load(file, **parts, **more)).to_arrow_table()
        return list(found.to_pylist())

    scanned = load("summary_scan", **parts, moment=over_time.moment, **_spans(over_time))
    scan = rec.database.ask(scanned).to_arrow_table()
    with rec.database.holding(_SCAN, scan):
        kinds, curve, causes = map(rows, ("summary_kinds", "summary_curve", "summary_causes"))
    owners = rows("summary_owners", **_spans(by_owner))
    buckets = max((end - start - 1) // width, 0) + 1
    for kind in kinds:
        table = rec.views[kind["kind"]].table
        kind["noun"] = table.noun if table is not None else ""
        kind["per_second"] = kind["events"] / info.seconds if info.seconds else None
        kind["buckets"] = [0] * buckets
        for point in curve:
            if point["kind"] == kind["kind"]:
                # The last event may be a little later than the end that was written down.
                kind["buckets"][min(max(point["bucket"], 0), buckets - 1)] += point["events"]
    return Summary(
        info,
        kinds,
        [_without(row, "found") for row in causes],
        causes[0]["found"] if causes else 0,
        [_without(row, "found") for row in owners],
        owners[0]["found"] if owners else 0,
        rows("summary_losses"),
        width,
        [] if rec.window else quick_look(rec),  # the counters are of whole seconds
        marks_of(rec),
        info.unchecked,
    )


def _spans(asked: rollups.Asked) -> dict[str, str]:
    return {"rows": asked.rows, "since": asked.since, "until": asked.until}


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}
