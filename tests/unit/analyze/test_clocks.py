from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from droptape.analyze import archive, open_recording
from droptape.analyze.clocks import ClockMove, moves, was_set
from droptape.analyze.render.info import show
from droptape.format.manifest import Clock
from unit.analyze.fleet import change, make_host
from unit.analyze.make import MONO, SECOND, START

NIGHT = 8 * 3600 * SECOND


def reading(after: int, *, step: int = 0, slept: int = 0) -> Clock:
    """Return the clocks `after` ns of running, set by `step` and after `slept` ns of suspend."""
    return Clock(MONO + after, START + after + step + slept, 2 * MONO + after + slept)


def test_a_clock_that_runs_has_no_moves() -> None:
    assert list(moves([])) == []
    assert list(moves([reading(0)])) == []
    drift = SECOND // 20
    assert list(moves([reading(0), reading(SECOND, step=drift), reading(9 * SECOND)])) == []


def test_setting_and_sleeping_are_told_apart() -> None:
    clocks = [
        reading(0),
        reading(SECOND, step=-3 * SECOND),
        reading(2 * SECOND, step=-3 * SECOND, slept=NIGHT),
        reading(3 * SECOND, step=SECOND, slept=NIGHT + SECOND),
    ]
    assert list(moves(clocks)) == [
        ClockMove("set", -3 * SECOND, clocks[1].wall_ns),
        ClockMove("asleep", NIGHT, clocks[2].wall_ns),
        ClockMove("asleep", SECOND, clocks[3].wall_ns),
        ClockMove("set", 4 * SECOND, clocks[3].wall_ns),
    ]
    assert was_set(clocks[0], clocks[2]) == -3 * SECOND
    assert was_set(clocks[1], clocks[2]) == 0


def test_recordings_without_the_third_clock_know_no_sleep() -> None:
    before, after = Clock(MONO, START), Clock(MONO + 1, START + NIGHT)
    assert list(moves([before, after])) == [ClockMove("set", NIGHT - 1, after.wall_ns)]


def test_info_says_what_the_clocks_did(tmp_path: Path) -> None:
    folder = make_host(tmp_path, "laptop", "after")
    clocks = [reading(0), reading(SECOND, slept=NIGHT), reading(9, step=-60 * SECOND, slept=NIGHT)]
    change(folder, clocks=[asdict(clock) for clock in clocks])
    out = io.StringIO()
    with open_recording(folder) as rec:
        show(Console(file=out, width=300, highlight=False), rec.info())
    said = [line for line in out.getvalue().splitlines() if line.startswith("  clock")]
    assert len(said) == 2
    assert "the host was suspended for 8 h 0 min, until 2023-11-15 06:13:21 UTC" in said[0]
    assert "set back by 60.0 s at 2023-11-15 06:12:20 UTC" in said[1]


def test_clocks_that_were_set_are_said(tmp_path: Path) -> None:
    clocks = [{"mono_ns": MONO, "wall_ns": START}, {"mono_ns": MONO + 5, "wall_ns": START + 10**9}]
    stepped = make_host(tmp_path, "stepped", "after")
    change(stepped, clocks=clocks)
    later = make_host(tmp_path, "later", "after")
    change(
        later, started_ns=START + 10**18, recording_id="later", host={"boot_id": "boot-of-stepped"},
        clocks=[{"mono_ns": MONO, "wall_ns": START + 5 * 10**9}],
    )  # fmt: skip
    target = tmp_path / "data"
    archive([str(stepped), str(later)], str(target))
    with open_recording(target) as rec:
        said = "\n".join(map(str, rec.problems))
    assert "its clock was set by +1.000 s while it recorded" in said
    assert "its clock was set by +4.000 s since stepped-" in said
