"""Whether the clocks of the hosts fit together.

All rows are on one axis, UTC, by the clock pairs (monotonic and wall, read together) of their
recording. A clock that was set while it was recorded, or between two recordings of one boot, shows
in these pairs: CLOCK_MONOTONIC is never set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .catalog import Entry

STEP_NS = 100_000_000
"""A clock that moves more than this against CLOCK_MONOTONIC was set; slewing and drift are less."""


def disagreements(entries: Sequence[Entry]) -> Iterable[tuple[Entry, str]]:
    """Yield recordings whose clock was set, and names that two machines have, with what to say."""
    boots: dict[str, Entry] = {}
    machines: dict[str, tuple[str, Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.manifest.started_ns, e.recording)):
        offsets = [pair.wall_ns - pair.mono_ns for pair in entry.manifest.clocks]
        if offsets and max(offsets) - min(offsets) > STEP_NS:
            moved = offsets[-1] - offsets[0]
            yield entry, f"its clock was set by {_seconds(moved)} while it recorded"
        host = entry.manifest.host
        before = boots.get(host.boot_id)
        if before is not None and offsets and host.boot_id:
            last = before.manifest.clocks[-1]
            moved = offsets[0] - (last.wall_ns - last.mono_ns)
            if abs(moved) > STEP_NS:
                yield entry, f"its clock was set by {_seconds(moved)} since {before.recording}"
        if offsets and host.boot_id:
            boots[host.boot_id] = entry
        first, other = machines.setdefault(entry.host, (host.machine_id, entry))
        if host.machine_id and first and host.machine_id != first:
            yield entry, f"another machine than that of {other.recording} has the name {entry.host}"


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:+.3f} s"
