"""The process of a command: its end, its signals, what it inherits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.recorder.command import HeldCommand
from droptape.recorder.options import parse_descriptor


@pytest.fixture
def trap() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_how_it_ended(script: str, code: int) -> None:
    command = HeldCommand(["sh", "-c", script])
    assert command.poll() is None
    command.start()
    assert command.wait(30) == code
    assert command.poll() == code
    command.send_signal(signal.SIGKILL)
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, os.WNOHANG)


def test_a_signal_while_its_end_is_learned(trap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler of a signal asks just when the kernel has answered the same question."""
    command = HeldCommand(["true"])
    answers: list[int | None] = []

    def handler(*_: object) -> None:
        command.send_signal(signal.SIGTERM)
        answers.append(command.poll())

    signal.signal(signal.SIGTERM, handler)

    def interrupted(right: object) -> object:
        def call(*arguments: object) -> object:
            answer = right(*arguments)  # type: ignore[operator]
            if not answers and answer not in (None, (0, 0)):
                answers.append(0)
                signal.raise_signal(signal.SIGTERM)
            return answer

        return call

    for name in ("waitid", "waitpid"):
        monkeypatch.setattr(os, name, interrupted(getattr(os, name)))
    command.start()
    assert command.wait(30) == 0
    assert answers == [0, 0]


def _run(program: Path, content: bytes, *arguments: str) -> int | None:
    program.write_bytes(content)
    program.chmod(0o755)
    command = HeldCommand([str(program), *arguments])
    command.start()
    return command.wait(30)


def test_a_script_that_names_no_interpreter_is_the_shells(tmp_path: Path) -> None:
    assert (
        _run(tmp_path / "script", b'[ "$0" = "%b" ] && exit $1\n' % bytes(tmp_path / "script"), "7")
        == 7
    )
    assert _run(tmp_path / "empty", b"") == 0


def test_what_cannot_be_run_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "other", b"\x7fELF\0\0\0 of another machine\n") == 127
    assert "Exec format error" in capfd.readouterr().err
    assert _run(tmp_path / "script", b"#!/nowhere/interpreter\n") == 127
    assert "the interpreter that it names is not there" in capfd.readouterr().err


_UNTOLD = """
import sys
from droptape.recorder.command import HeldCommand
command = HeldCommand(["/nowhere/program"])
command.start()
sys.exit(command.wait(30))
"""


def test_a_command_that_cannot_run_ends_also_where_nothing_can_be_said() -> None:
    """The copy of the recorder would go on, as a recorder."""
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run([sys.executable, "-c", _UNTOLD], stderr=full).returncode == 127


_RUN = """
import os, signal, sys
from droptape.recorder.command import HeldCommand
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
command = HeldCommand(["grep", "^SigIgn", "/proc/self/status"])
command.start()
sys.exit(command.wait(30))
"""


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM, None])
def test_what_was_ignored_stays_so(ignored: signal.Signals | None) -> None:
    def ignore() -> None:
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", _RUN], preexec_fn=ignore, capture_output=True, text=True, check=True
    )
    bits = int(done.stdout.split()[1], 16)
    for number in (signal.SIGINT, signal.SIGTERM):
        assert bool(bits >> (number - 1) & 1) == (number is ignored)


def test_a_command_does_not_hold_the_descriptor_of_ready() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = HeldCommand(["sleep", "60"]) if parse_descriptor(writer) else None
    assert command is not None
    command.start()
    try:
        os.close(writer)
        os.set_blocking(reader, False)
        until = time.monotonic() + 30
        while True:
            try:
                assert os.read(reader, 1) == b""
                break
            except BlockingIOError:
                # The fork has it until it becomes the command.
                assert time.monotonic() < until
                time.sleep(0.01)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait(30)
        os.close(reader)


def test_standard_streams_are_inherited_all_the_same() -> None:
    before = os.get_inheritable(1)
    assert parse_descriptor(1) == 1
    assert os.get_inheritable(1) == before
