"""Why segments were sent again: retransmits linked with the drops of their flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from droptape.format.types import ViewColumn

from .engine import name
from .errors import QueryError
from .shape import empty
from .sqlfiles import load
from .views import View

if TYPE_CHECKING:
    from .recording import Recording

NAME = "retransmit_causes"

_DOC = (
    "Every retransmit with the drop of its flow, or the refused opening, that explains it best, "
    "seen in any network namespace of the recording shortly before (within twice the timeout, at "
    "least a second)."
)
_COLUMNS = (
    ("recording", "VARCHAR", "short name of the recording"),
    ("ts", "TIMESTAMP_NS", "when the segment was sent again, UTC"),
    ("kind", "VARCHAR", "kind of retransmit"),
    ("amount", "BIGINT", "segments sent again"),
    ("saddr", "VARCHAR", "source address"),
    ("sport", "INTEGER", "source port"),
    ("daddr", "VARCHAR", "destination address"),
    ("dport", "INTEGER", "destination port"),
    ("seq", "BIGINT", "first sequence number"),
    ("length", "BIGINT", "payload, bytes"),
    ("owner_pid", "BIGINT", "process that owns the socket"),
    ("owner_comm", "VARCHAR", "its name"),
    ("container", "VARCHAR", "its container or unit"),
    ("netns", "BIGINT", "network namespace of the socket"),
    ("netns_name", "VARCHAR", "name of the namespace, where it has one"),
    (
        "match", "VARCHAR",
        "segment: the drop held these bytes; reply: it acknowledged them; flow: neither; else null",
    ),
    ("delay_ms", "DOUBLE", "from the drop to the retransmit"),
    ("reason", "VARCHAR", "reason of the drop; of a refused opening, the event in listen"),
    ("function", "VARCHAR", "kernel function that dropped"),
    ("drop_netns", "BIGINT", "network namespace where it was dropped"),
    ("drop_netns_name", "VARCHAR", "its name, where it has one"),
    ("drop_ifname", "VARCHAR", "network device of the dropped packet"),
    ("drop_ts", "TIMESTAMP_NS", "when it was dropped, UTC"),
)  # fmt: skip
_NO_DROPS = pa.schema(
    [(n, pa.int64()) for n in ("ts_ns", "seq", "ack", "netns", "length", "sport", "dport")]
    + [(n, pa.string()) for n in ("recording", "reason", "function", "netns_name", "ifname")]
    + [(n, pa.string()) for n in ("tcp_flags", "protocol")]
    + [("saddr", pa.binary(16)), ("daddr", pa.binary(16)), ("ip_version", pa.int16())]
)


@dataclass(frozen=True, slots=True)
class Correlation:
    """What the retransmits are explained by.

    Attributes:
        rows: kind, match, reason, function, netns, ifname, segments, share (percent), delay_ms
            (median), most segments first; match and reason are None where no drop was seen.
        segments: all segments sent again.
        notes: why a drop may be missing, in sentences.
    """

    rows: list[dict[str, Any]]
    segments: int
    notes: list[str]

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if not self.segments:
            return "Nothing was sent again."
        causes: Counter[tuple[str | None, str | None]] = Counter()
        for row in self.rows:
            if row["match"] in ("segment", "reply"):
                causes[row["reason"], row["function"]] += row["segments"]
        loose = sum(row["segments"] for row in self.rows if row["match"] == "flow")
        unseen = sum(row["segments"] for row in self.rows if row["match"] is None)
        parts = [
            f"{self._share(number)} explained by {reason or 'drops without a reason'}"
            f"{f' in {function}' if function else ''} here"
            for (reason, function), number in causes.most_common(3)
        ]
        others = sum(causes.values()) - sum(number for _, number in causes.most_common(3))
        if others:
            parts.append(f"{self._share(others)} by other drops here")
        if loose:
            parts.append(f"{self._share(loose)} shortly after other drops of the same flow")
        if unseen:
            parts.append(f"{self._share(unseen)} with no drop seen: lost elsewhere, or not at all")
        return f"Of {self.segments:,} segments sent again: {'; '.join(parts)}."

    def _share(self, number: int) -> str:
        percent = 100 * number / self.segments
        return f"{percent:.0f} %" if percent >= 1 else "less than 1 %"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"verdict": self.verdict, **asdict(self)}


def create(
    execute: Callable[[str], object], views: Mapping[str, View], address_type: str
) -> View | None:
    """Create the view in ``main`` and ``raw``; None when there are no retransmits.

    Args:
        execute: runs a CREATE VIEW.
        views: the views of the tables.
        address_type: the SQL type of addresses in ``raw``.
    """
    if "retransmits" not in views:
        return None
    none = empty(_NO_DROPS).replace("NULL::BLOB", f"NULL::{address_type}")
    drops = f"({none})".replace('AS "ts_ns"', "AS ts_ns, NULL::TIMESTAMP_NS AS ts")
    if "drops" in views:
        drops = f"({load('lost_packets')})" if "listen" in views else "raw.drops"
    for schema, address in (("raw", ""), ("main", "addr_text")):
        tables = {"retransmits": "raw.retransmits", "drops": drops}
        translated = load("translated", **tables)
        sql = load("retransmit_causes", translated=translated, address=address, **tables)
        execute(f"CREATE VIEW {schema}.{name(NAME)} AS {sql}")
    return View(NAME, _DOC, tuple(ViewColumn(n, "", t, doc) for n, t, doc in _COLUMNS), None)


def correlate(rec: Recording) -> Correlation:
    """See `Recording.correlate`."""
    if NAME not in rec.views:
        raise QueryError("no retransmits were recorded")
    rows = list(rec.connection.sql(load("correlate")).to_arrow_table().to_pylist())
    return Correlation(rows, sum(row["segments"] for row in rows), _notes(rec))


def _notes(rec: Recording) -> list[str]:
    if "drops" not in rec.views:
        return ["Drops were not recorded, so none could be found."]
    said = []
    if "losses" in rec.views:
        sql = "SELECT coalesce(sum(events), 0)::BIGINT FROM losses WHERE kind = 'drops'"
        ((missing,),) = rec.connection.sql(sql).fetchall()
        if missing:
            said.append(
                f"{missing:,} drops have no row (sampled out or lost): some of the retransmits "
                "without a drop may have had one here."
            )
    for source in rec.sources:
        probes = source.manifest.probes if source.manifest else []
        said += [
            f"Drops were not all seen: {probe.name} was missing ({probe.note})."
            for probe in probes
            if probe.table == "drops" and not probe.attached
        ]
    return said
