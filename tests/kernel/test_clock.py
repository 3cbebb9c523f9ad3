"""The wall clock is set while a recording runs: times stay right on both sides of it."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from lab import Lab
from lab.recorder import Recorder
from lab.trouble import closed_udp_port

HOUR_NS = 3600 * 10**9
COUNT = 50

# Only this recorder sees another time: the host's clock is everybody's.
_CLOCK = """
import os, time
_real = time.time_ns
def time_ns():
    try:
        with open(os.environ["TEST_CLOCK_SHIFT"]) as file:
            return _real() + int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        return _real()
time.time_ns = time_ns
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_each_side_of_a_step_has_its_own_time(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    shift = tmp_path / "shift"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_CLOCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("TEST_CLOCK_SHIFT", str(shift))
    with Recorder(tmp_path / "rec") as recorder:
        offset = time.time_ns() - time.monotonic_ns()
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(1)
        stepped_ns = time.monotonic_ns()
        shift.write_text(str(hours * HOUR_NS))
        time.sleep(1.5)
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(1.5)
        recorder.stop()
    with open_recording(recorder.folder) as recording:
        rows = recording.sql(
            f"""SELECT mono_ns > {stepped_ns} AS after, count(*),
                max(abs(epoch_ns(ts) - mono_ns - {offset}
                    - CASE WHEN mono_ns > {stepped_ns} THEN {hours * HOUR_NS} ELSE 0 END))
                FROM drops WHERE netns = {server.inum} GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        assert recording.verify().unexplained == []
        (move,) = recording.info().recordings[0].clock_moves
    assert [row[:2] for row in rows] == [(False, COUNT), (True, COUNT)]
    assert all(error < 10**9 for _, _, error in rows)
    offsets = [pair.wall_ns - pair.mono_ns for pair in Manifest.read(recorder.folder).clocks]
    assert abs(offsets[-1] - offsets[0] - hours * HOUR_NS) < 10**9
    assert any(abs(b - a) > HOUR_NS / 2 for a, b in pairwise(offsets))
    assert move.kind == "set"
    assert abs(move.by_ns - hours * HOUR_NS) < 10**9
