"""A recorder that is killed, stopped, or loses its loader."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from droptape.analyze import open_recording
from kernel.recorded import NO_SOCKET
from lab import Lab
from lab.crash import busy, crash
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import closed_udp_port


def test_kills_while_sealing_lose_and_double_nothing(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("host")
    dice = random.Random(4)
    task = busy(host)
    try:
        crashes = [crash(tmp_path / f"rec{turn}", dice) for turn in range(5)]
    finally:
        task.stop(30)
    for one in crashes:
        assert one.harmless, one
        assert one.recovered > 0
    assert sum(c.sealed for c in crashes) > len(crashes)
    assert sum(c.journals for c in crashes) > 0


def test_a_killed_loader_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAMS / "droptape-record", "-o", tmp_path / "rec"], stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 20
    loader = ""
    while not loader and time.monotonic() < deadline:
        for child in children.read_text().split():
            if b"droptape.bpf.loader" in Path(f"/proc/{child}/cmdline").read_bytes():
                loader = child
    os.kill(int(loader), signal.SIGKILL)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "the loader ended before it was done: SIGKILL killed it" in said
    assert not (tmp_path / "rec").exists()


def test_ten_seconds_of_sleep_cost_nothing(lab: Lab, tmp_path: Path) -> None:
    """As under a debugger, or on a host that was suspended."""
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec") as recorder:
        os.kill(recorder.pid, signal.SIGSTOP)
        try:
            closed_udp_port(server, client, link.address(server), count=2000)
            time.sleep(10)
        finally:
            os.kill(recorder.pid, signal.SIGCONT)
        closed_udp_port(server, client, link.address(server), count=500)
        time.sleep(1.5)
        assert recorder.stop() == 0
    with open_recording(recorder.folder) as recording:
        sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
        assert recording.sql(sql).fetchall() == [(2500,)]
        assert recording.verify().unexplained == []
        assert recording.summary().losses == []
