"""Names and mounts that hardly anybody has must not end the recorder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from droptape.bpf.kernel import cgroup2_mount
from lab.recorder import PROGRAMS

RECORD = str(PROGRAMS / "droptape-record")
LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(2.5)"
# $1 is a folder to mount over, $2 what is recorded, and the rest is the recorder.
SCRIPT = 'mount -t tmpfs none "$1" && shift && exec "$@"'


def dictionary(folder: Path, table: str, column: str) -> list[object]:
    files = sorted((folder / table).glob("*.parquet"))
    return [value for file in files for value in pq.read_table(file)[column].to_pylist()]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    mount = cgroup2_mount()
    if mount is None:
        pytest.skip("no cgroup version 2")
    point = tmp_path / os.fsdecode(b"caf\xe9\x0b")
    point.mkdir()
    group = mount / os.fsdecode(b"droptape-caf\xe9")
    group.mkdir()
    space = os.fsdecode(b"droptape-\xff")
    subprocess.run(["ip", "netns", "add", space], check=True)
    # Into the group first: `ip netns exec` mounts another /sys.
    inside = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    listening = ["ip", "netns", "exec", space, sys.executable, "-c", LISTEN]
    record = [RECORD, "-o", str(tmp_path / "rec"), "--", "sh", "-c", inside, str(group), *listening]
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(point)]
    try:
        done = subprocess.run([*command, *record], check=False, capture_output=True)
    finally:
        subprocess.run(["ip", "netns", "del", space], check=True)
        group.rmdir()
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert json.loads((tmp_path / "rec/recording.json").read_text())["state"] == "complete"
    assert r"/droptape-caf\xe9" in dictionary(tmp_path / "rec", "cgroups", "path")
    assert r"droptape-\xff" in dictionary(tmp_path / "rec", "netns", "name")


def test_control_groups_that_another_mount_hides(tmp_path: Path) -> None:
    record = [RECORD, "-o", str(tmp_path / "rec"), "--", sys.executable, "-c", LISTEN]
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", "/sys/fs", *record]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "rec/recording.json").read_text())
    assert manifest["state"] == "complete"
    assert any("another mount hides it" in probe["note"] for probe in manifest["probes"])


def test_in_another_pid_namespace_owners_are_not_looked_up(tmp_path: Path) -> None:
    record = [RECORD, "-o", str(tmp_path / "rec"), "--", sys.executable, "-c", LISTEN]
    command = ["unshare", "--pid", "--fork", "--mount-proc", *record]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "rec/recording.json").read_text())
    assert [note for note in manifest["notes"] if "initial pid namespace" in note]
    assert not (tmp_path / "rec/processes").exists()
    assert set(dictionary(tmp_path / "rec", "netns", "pid")) == {None}
