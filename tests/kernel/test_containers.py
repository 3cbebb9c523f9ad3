"""A finding names the container of a process also where that has the network of the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import diagnose, load_rules
from droptape.bpf.kernel import cgroup2_mount
from lab.recorder import PROGRAMS

RECORD = str(PROGRAMS / "droptape-record")
ID = "4f5c" * 16
# What opens the socket goes on in a container's group; the network is the one it came from.
OVERFLOW = """
import socket, time
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(500):
    sender.sendto(bytes(200), receiver.getsockname())
time.sleep(1)
"""
INSIDE = 'echo $$ > "$0/cgroup.procs" && ip link set lo up && exec "$@"'


def test_a_container_with_the_network_of_the_host(tmp_path: Path) -> None:
    mount = cgroup2_mount()
    if mount is None:
        pytest.skip("no cgroup version 2")
    group = mount / f"docker-{ID}.scope"
    group.mkdir()
    program = ["sh", "-c", INSIDE, str(group), sys.executable, "-c", OVERFLOW]
    record = [RECORD, "-o", str(tmp_path / "rec"), "--", *program]
    try:
        done = subprocess.run(
            ["unshare", "--net", *record], check=False, capture_output=True, text=True
        )
    finally:
        group.rmdir()
    assert done.returncode == 0, done.stderr
    with open_recording(tmp_path / "rec") as rec:
        found = diagnose(rec, load_rules()).findings
    (finding,) = [f for f in found if f.id == "udp_receive_buffer"]
    assert f" in container {ID[:12]} " in finding.title
