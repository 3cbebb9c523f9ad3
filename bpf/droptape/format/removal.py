"""What goes to keep a disk budget, and until when that lasted by the clock of what stays.

Rows have the UTC of their time. Where that ran ahead and was set back, old rows are later than what
came after them, and a recording would look as if it missed what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from .layout import added_later, sequence_of
from .manifest import Clock, Manifest, Removed, Segment
from .schema import Table
from .tables import REASONS, SYMBOLS

STEP_NS = 100_000_000
"""What moves more than this against CLOCK_MONOTONIC was set; slewing and drift are less."""
_DISORDER_NS = 1_000_000_000
"""Segments of one table overlap by less than this when no clock was set."""
_NOTICED_NS = 2_000_000_000
"""A clock that was set is read again within this."""


def is_put_together(table: Table) -> bool:
    """Say whether a recorder with a disk budget puts the oldest files of `table` into the first.

    Symbols and reasons are those of the kernel; of added tables (layout.py) it knows nothing.
    """
    fixed = table.name in (SYMBOLS.name, REASONS.name)
    return table.role == "dictionary" and not fixed and not added_later(table.name)


def set_back_ns(clocks: Sequence[Clock]) -> int:
    """Return by how many ns UTC was ahead at most of what it was set to later; 0 when never."""
    told = all(clock.boot_ns for clock in clocks)  # whether the host was suspended
    highest, back = None, 0
    for clock in clocks:
        offset = clock.wall_ns - (clock.boot_ns if told else clock.mono_ns)
        highest = offset if highest is None else max(highest, offset)
        back = max(back, highest - offset)
    return back if back > STEP_NS else 0


def true_end(
    manifest: Manifest,
    table: str,
    through: int,
    last_ns: int,
    now_ns: int,
    segments: Iterable[Segment] | None = None,
) -> int:
    """Return when the rows of `table` up to file `through` ended, by the clock of what stays.

    Two things tell: the offset of the clock when the rows were taken, where their time can only be
    of one, and the first row of what stays. Where neither does it is `last_ns`.

    Args:
        manifest: with the clocks.
        table: its name.
        through: the number of the last file.
        last_ns: the last time in these files, UTC in ns.
        now_ns: UTC, or when the recording ended.
        segments: those that stay; those of `manifest` if not given.
    """
    back = set_back_ns(manifest.clocks)
    if not back:
        return last_ns
    times = (
        s.first_ns
        for s in (manifest.segments if segments is None else segments)
        if s.table == table and s.first_ns is not None and sequence_of(s.file) > through
    )
    left = min(times, default=now_ns)
    most = last_ns if last_ns - left <= _DISORDER_NS else max(left, last_ns - back)
    return min(most, max(_moved(manifest.clocks, last_ns, now_ns), default=last_ns))


def _moved(clocks: Sequence[Clock], time_ns: int, now_ns: int) -> Iterator[int]:
    """Yield what a time may be by the last of `clocks`, for each of them that it may be of."""
    now = clocks[-1].wall_ns - clocks[-1].mono_ns
    for clock, after in zip_longest(clocks, clocks[1:]):
        offset = clock.wall_ns - clock.mono_ns
        end = now_ns if after is None else after.mono_ns + offset
        if clock.wall_ns - _NOTICED_NS <= time_ns <= end + _NOTICED_NS:
            yield time_ns + now - offset


def corrected(
    manifest: Manifest,
    table: str,
    removed: Removed,
    now_ns: int,
    segments: Iterable[Segment] | None = None,
) -> Removed:
    """Return `removed` with its times by the clock of what stays; arguments as in `true_end`."""
    last = true_end(manifest, table, removed.through, removed.last_ns, now_ns, segments)
    return replace(removed, first_ns=min(removed.first_ns, last), last_ns=last)
