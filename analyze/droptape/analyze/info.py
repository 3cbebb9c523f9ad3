"""What a recording is: where, when, by what, and how complete."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from droptape.format.manifest import Host, Probe, Removed

from .clocks import ClockMove, moves
from .source import Source, State
from .times import Window

if TYPE_CHECKING:
    from .recording import Recording


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table of one recording.

    Attributes:
        rows: all rows; `journal_rows` of them are not sealed yet.
        files: sealed files.
        bytes: on disk.
        first_ns: time of the first row, ns since 1970 (UTC); None without rows or times.
        last_ns: time of the last row.
    """

    name: str
    doc: str
    role: str
    rows: int
    journal_rows: int
    files: int
    bytes: int
    first_ns: int | None
    last_ns: int | None


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """One recording. Times are ns since 1970 (UTC).

    `started_ns` and `ended_ns` are those of the part that is asked (`Recording.between`),
    `whole_ns` those of all of it.

    `clock_moves` says when a clock was set or the host was suspended, in the whole recording.

    `removed` says by table what went to keep a disk budget. Nothing is missing from
    `complete_from_ns` on, and only that part is asked; None when nothing was removed.
    """

    name: str
    path: str
    id: str
    state: State
    completeness: str
    host: Host | None
    recorder_version: str
    started_ns: int | None
    ended_ns: int | None
    ended_by: str
    options: dict[str, Any]
    probes: list[Probe]
    losses: dict[str, dict[str, int]]
    notes: list[str]
    tables: list[TableInfo]
    removed: dict[str, Removed] = field(default_factory=dict)
    complete_from_ns: int | None = None
    whole_ns: tuple[int | None, int | None] = (None, None)
    clock_moves: list[ClockMove] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it is; 0 when unknown."""
        if self.started_ns is None or self.ended_ns is None:
            return 0.0
        return max(self.ended_ns - self.started_ns, 0) / 1e9

    @property
    def missing_probes(self) -> list[Probe]:
        """Hooks that were not live, each with the reason in `note`."""
        return [probe for probe in self.probes if not probe.attached]


@dataclass(frozen=True, slots=True)
class Info:
    """The opened recordings and what of them could not be read.

    `unchecked` files were not compared with their checksums: there is too much of them for that.
    """

    recordings: list[RecordingInfo]
    problems: list[str] = field(default_factory=list)
    unchecked: int = 0

    @property
    def span_ns(self) -> tuple[int, int]:
        """Earliest start and latest end, ns since 1970 (UTC); (0, 0) when nothing is known."""
        starts = [r.started_ns for r in self.recordings if r.started_ns is not None]
        ends = [r.ended_ns for r in self.recordings if r.ended_ns is not None]
        return min(starts, default=0), max(ends, default=0)

    @property
    def origin_ns(self) -> int:
        """What offsets count from: the earliest start of a whole recording; 0 when unknown."""
        return min((r.whole_ns[0] for r in self.recordings if r.whole_ns[0] is not None), default=0)

    @property
    def seconds(self) -> float:
        """The durations of all recordings added."""
        return math.fsum(recording.seconds for recording in self.recordings)

    @property
    def not_compared(self) -> str:
        """A sentence on the files that were not compared, "" when all were."""
        if not self.unchecked:
            return ""
        files = "1 file was" if self.unchecked == 1 else f"{self.unchecked:,} files were"
        return f"{files} not compared byte for byte: `droptape verify` does that."

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        recordings = [asdict(r) | {"seconds": r.seconds} for r in self.recordings]
        return {"recordings": recordings, "problems": self.problems, "unchecked": self.unchecked}


def describe(rec: Recording) -> Info:
    """See `Recording.info`."""
    ranges = rec.origin.ranges(rec.connection)
    return Info(
        [_one(rec, source, ranges.get(source.name, {})) for source in rec.sources],
        [str(problem) for problem in rec.problems],
        sum(source.unchecked for source in rec.sources),
    )


def _one(rec: Recording, source: Source, ranges: dict[str, tuple[int, int]]) -> RecordingInfo:
    tables = [
        TableInfo(
            table,
            stored.table.doc,
            stored.table.role,
            stored.rows,
            stored.journal_rows,
            len(stored.sealed),
            stored.bytes,
            *ranges.get(table, (None, None)),
        )
        for table, stored in source.tables.items()
    ]
    manifest = source.manifest
    firsts = [t.first_ns for t in tables if t.first_ns is not None]
    lasts = [t.last_ns for t in tables if t.last_ns is not None]
    started = manifest.started_ns if manifest else min(firsts, default=None)
    ended = manifest.ended_ns if manifest else None
    ended = ended if ended is not None else max(lasts, default=started)
    asked_from = started
    if source.complete_from is not None:
        asked_from = max(source.complete_from, started or 0)
    return RecordingInfo(
        name=source.name,
        path=str(source.bundle or source.path),
        id=manifest.recording_id if manifest else "",
        state=source.state,
        completeness=completeness(source),
        host=manifest.host if manifest else None,
        recorder_version=manifest.recorder_version if manifest else "",
        started_ns=_clip(asked_from, rec.window),
        ended_ns=_clip(ended, rec.window),
        ended_by=manifest.ended_by if manifest else "",
        options=dict(manifest.options) if manifest else {},
        probes=list(manifest.probes) if manifest else [],
        losses={k: dict(v) for k, v in manifest.losses.items()} if manifest else {},
        notes=list(manifest.notes) if manifest else [],
        tables=tables,
        removed=dict(manifest.removed) if manifest else {},
        complete_from_ns=source.complete_from,
        whole_ns=(started, ended),
        clock_moves=list(moves(manifest.clocks)) if manifest else [],
    )


def _clip(instant: int | None, window: Window | None) -> int | None:
    if instant is None or window is None:
        return instant
    if window.start is not None:
        instant = max(instant, window.start)
    return min(instant, window.end) if window.end is not None else instant


def completeness(source: Source) -> str:
    """Say in words how the recording ended."""
    rows = source.journal_rows
    journals = f"{rows:,} rows come from journals that are not sealed" if rows else ""
    texts = {
        "complete": "complete: the recorder ended in order",
        "recovered": "recovered: the recorder did not end in order, a later one sealed the rest",
        "recording": "still recording",
        "interrupted": "the recorder did not end in order: it was killed, or the recording was "
        "copied while it ran",
        "unknown": "unknown: recording.json is missing or damaged",
    }
    return texts[source.state] + (f"; {journals}" if journals else "")
