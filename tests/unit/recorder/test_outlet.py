"""Text for streams that stand still."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from droptape.recorder.announce import Announcer
from droptape.recorder.outlet import Outlet
from droptape.recorder.status import StatusLine

LINE = "x" * 999 + "\n"
PATIENCE_S = 30


def test_what_is_written_arrives_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        outlet = Outlet(stream, waiting=100)
        for number in range(100):
            assert outlet.write(f"{number}\n")
        outlet.finish(PATIENCE_S)
        assert (tmp_path / "log").read_text().split() == [str(n) for n in range(100)]


def test_a_full_pipe_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    outlet = Outlet(stream)
    deadline = time.monotonic() + PATIENCE_S
    while outlet.write(LINE):
        assert time.monotonic() < deadline
        outlet.finish(0.05)
    os.set_blocking(reader, False)
    got = b""
    while not outlet.write("end\n"):
        got += _read(reader)
    while not got.endswith(b"x\nend\n"):
        assert time.monotonic() < deadline
        got += _read(reader)
    stream.close()
    os.close(reader)


def test_a_full_disk_leaves_out_what_it_does_not_take() -> None:
    with Path("/dev/full").open("w") as stream:
        outlet = Outlet(stream)
        for _ in range(3):
            assert outlet.write(LINE)
            outlet.finish(PATIENCE_S)


@pytest.mark.parametrize(("kind", "clears"), [("xterm", True), (None, True), ("dumb", False)])
def test_a_terminal_that_cannot_clear_a_line_gets_whole_lines(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, clears: bool
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if kind:
        monkeypatch.setenv("TERM", kind)
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream:
        outlet = Outlet(stream)
        status = StatusLine(outlet)
        status.update({"drops": 7}, 0, 0, "")
        Announcer(outlet).say("trouble")
        status.clear()
        outlet.finish(PATIENCE_S)
        text = os.read(master, 10_000)
    os.close(master)
    assert (b"\x1b[K" in text, b"drops 7" in text) == (clears, clears)
    assert b"droptape-record: trouble\r\n" in text


def _read(reader: int) -> bytes:
    with suppress(BlockingIOError):
        return os.read(reader, 1 << 20)
    return b""


def test_that_nobody_reads_is_told() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        outlet = Outlet(stream)
        outlet.write(LINE)
        outlet.finish(PATIENCE_S)
        with pytest.raises(BrokenPipeError):
            outlet.write(LINE)


def test_all_of_it_arrives_where_nobody_may_wait() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = os.fdopen(writer, "w")
    outlet = Outlet(stream, waiting=1000)
    for _ in range(300):  # more than a pipe holds
        assert outlet.write(LINE)
    got = 0
    while got < 300 * len(LINE):
        got += len(os.read(reader, 1 << 20))
    outlet.finish(PATIENCE_S)
    stream.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_without_a_thread_texts_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with (tmp_path / "log").open("w") as stream:
        outlet = Outlet(stream)
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            assert outlet.write("first\n") == 0
        assert outlet.write("second\n")
        outlet.finish(PATIENCE_S)
    assert (tmp_path / "log").read_text() == "second\n"
