"""The command that a recording is made for."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .lean import environment

_POLL_S = 0.02
_SHELL = "/bin/sh"
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
# What this program was called with: later the recorder has handlers of its own.
_IGNORED = frozenset(n for n in _ASKING if signal.getsignal(n) == signal.SIG_IGN)


class HeldCommand:
    """A process that is made at once and becomes the command later.

    The recorder gives up its privileges before the probes are announced; the command is to have
    those that it was called with.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Make the process; it does nothing yet, and ends when this process does.

        Args:
            command: the program, looked up in PATH, and its arguments.
        """
        reader, self._writer = os.pipe()
        # Nothing here may be written twice.
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        self._status: int | None = None
        if self.pid == 0:
            _wait_and_run(reader, self._writer, command)
        os.close(reader)

    def start(self) -> None:
        """Let it become the command."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, b".")
        os.close(self._writer)
        self._writer = -1

    @property
    def started(self) -> bool:
        """Whether it was let become the command."""
        return self._writer < 0

    def cancel(self) -> None:
        """End it if it was not started."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
            self.wait(None)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs: its code, or minus the signal.

        A signal handler may call it while it is being called: what has ended is only looked at.
        """
        if self._status is None:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                exited = ended.si_code == os.CLD_EXITED
                self._status = ended.si_status if exited else -ended.si_status
        return self._status

    def wait(self, seconds: float | None) -> int | None:
        """Wait for its end, at most `seconds`; return as `poll` does."""
        end = None if seconds is None else time.monotonic() + seconds
        while (status := self.poll()) is None and (end is None or time.monotonic() < end):
            time.sleep(_POLL_S)
        if status is not None:
            # From here on `poll` asks the kernel no more, and nothing is sent to this number.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _wait_and_run(reader: int, writer: int, command: Sequence[str]) -> NoReturn:
    try:
        os.close(writer)
        signal.set_wakeup_fd(-1)
        for number in _ASKING:
            signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
        # Python ignores these, and what is ignored stays so in a program that is run.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if os.read(reader, 1):
            _become(command)
    except OSError as exc:
        why = exc.strerror
        if exc.errno == errno.ENOENT and shutil.which(command[0]):
            why = "the interpreter that it names is not there"
        text = f"droptape-record: cannot run {command[0]!r}: {why}\n"
        os.write(2, text.encode())
    finally:
        os._exit(127)  # also where that cannot be written: it is a copy of the recorder


def _become(command: Sequence[str]) -> NoReturn:
    """Run `command` in place of this process, as execvp(3) does; OSError when it cannot be."""
    try:
        os.execvpe(command[0], list(command), environment())
    except OSError as exc:
        program = shutil.which(command[0])
        if exc.errno != errno.ENOEXEC or program is None or not _may_be_script(program):
            raise
        os.execve(_SHELL, [_SHELL, program, *command[1:]], environment())


def _may_be_script(program: str) -> bool:
    """Say whether `program` may be a script: its first line is text."""
    with Path(program).open("rb") as file:
        return b"\0" not in file.read(128).partition(b"\n")[0]
