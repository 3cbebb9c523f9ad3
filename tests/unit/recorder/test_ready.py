"""Telling those who wait that the probes are live."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from droptape.recorder import ready


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"droptape-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        ready.tell(None)
        assert manager.recv(4096).splitlines()[0] == b"READY=1"


@pytest.mark.parametrize("place", ["/nowhere/notify", "@droptape-test-nobody", "vsock:2:1", ""])
def test_nobody_has_to_wait(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    reader, writer = os.pipe()
    ready.tell(writer)
    assert os.read(reader, 100) == b"ready\n"
    os.close(reader)
    ready.tell(writer)
    os.close(writer)


def test_a_full_pipe_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, bytes(size))
    ready.tell(writer)
    assert os.read(reader, size) == bytes(size)
    assert os.read(reader, 100) == b"ready\n"
    os.close(reader)
    os.close(writer)
