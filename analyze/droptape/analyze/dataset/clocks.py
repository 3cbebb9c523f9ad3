"""Whether the clocks of the hosts fit together.

All rows are on one axis, UTC, by the readings of the clocks in their recording. These show a clock
that was set while it was recorded, or between two recordings of one boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from droptape.analyze.clocks import moves, was_set

from .catalog import Entry


def disagreements(entries: Sequence[Entry]) -> Iterable[tuple[Entry, str]]:
    """Yield recordings whose clock was set, and names that two machines have, with what to say."""
    boots: dict[str, Entry] = {}
    machines: dict[str, tuple[str, Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.manifest.started_ns, e.recording)):
        clocks = entry.manifest.clocks
        for move in moves(clocks):
            if move.kind == "set":
                yield entry, f"its clock was set by {_seconds(move.by_ns)} while it recorded"
        host = entry.manifest.host
        before = boots.get(host.boot_id)
        if before is not None and clocks and host.boot_id:
            moved = was_set(before.manifest.clocks[-1], clocks[0])
            if moved:
                yield entry, f"its clock was set by {_seconds(moved)} since {before.recording}"
        if clocks and host.boot_id:
            boots[host.boot_id] = entry
        first, other = machines.setdefault(entry.host, (host.machine_id, entry))
        if host.machine_id and first and host.machine_id != first:
            yield entry, f"another machine than that of {other.recording} has the name {entry.host}"


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:+.3f} s"
