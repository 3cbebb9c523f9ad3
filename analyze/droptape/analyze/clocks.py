"""When a clock was set, or the host was suspended, while it was recorded.

The recorder reads its clocks together, and again whenever they moved apart. CLOCK_MONOTONIC is
never set and stands still while the host is suspended; CLOCK_BOOTTIME goes on; UTC can be set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from droptape.format.manifest import Clock
from droptape.format.removal import STEP_NS


@dataclass(frozen=True, slots=True)
class ClockMove:
    """What happened to the clocks of a host.

    Attributes:
        kind: ``set``: UTC was set; ``asleep``: the host was suspended.
        by_ns: by how much UTC was set, below zero when back; or how long the host was asleep.
        at_ns: when it was noticed, at most a second later, ns since 1970 (UTC) by the clock after.
    """

    kind: Literal["set", "asleep"]
    by_ns: int
    at_ns: int


def moves(clocks: Sequence[Clock]) -> Iterator[ClockMove]:
    """Yield what happened between the readings, in order."""
    if not clocks:
        return
    set_from, asleep_from = 0, 0
    for clock in clocks:
        slept = _asleep(clocks[0], clock)
        shifted = clock.wall_ns - clock.mono_ns - clocks[0].wall_ns + clocks[0].mono_ns - slept
        if slept - asleep_from > STEP_NS:
            yield ClockMove("asleep", slept - asleep_from, clock.wall_ns)
            asleep_from = slept
        if abs(shifted - set_from) > STEP_NS:
            yield ClockMove("set", shifted - set_from, clock.wall_ns)
            set_from = shifted


def was_set(before: Clock, after: Clock) -> int:
    """Return by how many ns UTC was set between two readings of one boot; 0 within `STEP_NS`."""
    return sum(move.by_ns for move in moves([before, after]) if move.kind == "set")


def _asleep(first: Clock, clock: Clock) -> int:
    if not first.boot_ns or not clock.boot_ns:
        return 0
    return clock.boot_ns - clock.mono_ns - first.boot_ns + first.mono_ns
