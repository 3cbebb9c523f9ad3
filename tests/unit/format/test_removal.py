"""When removed rows ended, by the clock of what stays."""

from __future__ import annotations

import pytest

from droptape.format.manifest import Clock, Host, Manifest, Segment
from droptape.format.removal import set_back_ns, true_end

SECOND = 10**9


def test_by_how_much_a_clock_was_ahead() -> None:
    # Of readings that are a second apart: one of slewing, one ahead, two steps back, asleep.
    walls = (0, 1.01, 12, 8, 4, 105)
    clocks = [Clock(i * SECOND, int(w * SECOND)) for i, w in enumerate(walls)]
    assert set_back_ns(clocks) == 10 * SECOND
    assert set_back_ns(clocks[:3]) == set_back_ns([]) == 0
    asleep = [Clock(SECOND, 9 * SECOND, SECOND), Clock(2 * SECOND, 9 * SECOND, 11 * SECOND)]
    assert set_back_ns(asleep) == 10 * SECOND


def manifest(*first: int, ahead: int = 60) -> Manifest:
    """Files of a table that begin at `first`; the clock was ahead for the seconds 0 to 100."""
    clocks = [Clock(0, ahead * SECOND), Clock(100 * SECOND, 100 * SECOND)]
    segments = [
        Segment("t", f"t/{n:06d}-20261122T000000Z.parquet", 1, at * SECOND, at * SECOND, 1, "")
        for n, at in enumerate(first, start=2)
    ]
    host = Host("h", "b", "k", "a", 1)
    return Manifest("id", host, 0, {}, clocks=clocks, segments=segments)


@pytest.mark.parametrize(
    ("last", "first", "end"),
    [
        (150, (), 90),  # that late it was by the clock that was ahead only
        (110, (), 110),  # it may be of either
        (110, (55,), 55),
        (158, (95, 300), 98),
        (3000, (), 2940),  # of no clock: at most as much ahead as it was set back
        (3000, (2990,), 2990),
        (50, (300,), 50),
    ],
)
def test_when_rows_ended(last: int, first: tuple[int, ...], end: int) -> None:
    now = 105 if last == 150 else 400
    assert true_end(manifest(*first), "t", 1, last * SECOND, now * SECOND) == end * SECOND


def test_no_clock_was_set_back() -> None:
    assert true_end(manifest(1, ahead=-60), "t", 1, 90 * SECOND, SECOND) == 90 * SECOND


def test_rows_of_a_moment_are_in_no_order() -> None:
    files = manifest(100)
    assert true_end(files, "t", 1, 101 * SECOND, 400 * SECOND) == 101 * SECOND
