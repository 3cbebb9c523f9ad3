"""The host is suspended while a recording runs. For virtual machines only: python -m vm test.

CLOCK_MONOTONIC stands still meanwhile and the wall clock does not, so the two are further apart
afterwards.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from lab import Lab
from lab.recorder import Recorder
from lab.trouble import closed_udp_port, slow_server

COUNT = 50
ASLEEP_S = 8


@pytest.mark.parametrize("state", ["mem", "freeze"])
def test_what_happens_before_and_after_is_recorded(tmp_path: Path, state: str) -> None:
    assert state in Path("/sys/power/state").read_text().split()
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        link = lab.link(server, client)
        with Recorder(tmp_path / "rec") as recorder, server.counting() as counters:
            offset = time.time_ns() - time.monotonic_ns()
            closed_udp_port(server, client, link.address(server), count=COUNT)
            suspended_ns = time.monotonic_ns()
            subprocess.run(["rtcwake", "-m", state, "-s", str(ASLEEP_S)], check=True)
            shift = time.time_ns() - time.monotonic_ns() - offset
            closed_udp_port(server, client, link.address(server), count=COUNT)
            slow_server(server, client, link.address(server))
            time.sleep(2)
            recorder.stop()
    assert shift > (ASLEEP_S - 3) * 10**9
    with open_recording(recorder.folder) as recording:
        rows = recording.sql(
            f"""SELECT mono_ns > {suspended_ns} AS after, count(*),
                max(abs(epoch_ns(ts) - mono_ns - {offset}
                    - CASE WHEN mono_ns > {suspended_ns} THEN {shift} ELSE 0 END))
                FROM drops WHERE netns = {server.inum} AND protocol = 'UDP'
                GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        listen = recording.sql(
            f"SELECT sum(weight) FROM listen WHERE netns = {server.inum}"
        ).fetchall()
        assert recording.verify().unexplained == []
    assert [row[:2] for row in rows] == [(False, COUNT), (True, COUNT)]
    assert all(error < 10**9 for _, _, error in rows)
    assert counters["Udp.NoPorts"] == 2 * COUNT
    assert listen == [(counters["TcpExt.ListenDrops"],)]
    offsets = [pair.wall_ns - pair.mono_ns for pair in Manifest.read(recorder.folder).clocks]
    assert abs(offsets[-1] - offsets[0] - shift) < 10**9
