"""When to stop: signals, the duration, and the end of a command."""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType

from .command import HeldCommand
from .options import UsageError

_KILL_AFTER_S = 5.0


class StoppedError(Exception):
    """A signal came before the recording began.

    Attributes:
        code: the code to exit with.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def find_program(command: Sequence[str]) -> None:
    """Raise UsageError unless the program of `command` can be started."""
    if command and shutil.which(command[0]) is None:
        raise UsageError(f"the command {command[0]!r} is not there or cannot be run")


class Stopper:
    """Waits, and says why to stop.

    While it is entered, SIGINT and SIGTERM only ask for a stop, and every signal ends a wait.

    Attributes:
        reason: why the recording ends, or "" while it goes on.
    """

    def __init__(self, duration_s: float | None) -> None:
        self.reason = ""
        self._duration = duration_s
        self._end: float | None = None
        self._command: HeldCommand | None = None
        self._previous: dict[int, object] = {}
        self._nothing_begun = False
        self._reader, self._writer = socket.socketpair()
        self._waker = select.poll()  # select takes no descriptor above 1023
        self._waker.register(self._reader, select.POLLIN)

    def __enter__(self) -> Stopper:
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._old_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._previous[number] = signal.signal(number, self._asked)
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._command is not None:
            self._command.cancel()
        self._reader.close()
        self._writer.close()

    @contextlib.contextmanager
    def nothing_begun(self) -> Iterator[None]:
        """Have signals raise StoppedError in this block: there is nothing to end in order yet."""
        self._nothing_begun = True
        try:
            yield
        finally:
            self._nothing_begun = False

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._nothing_begun:
            raise StoppedError(number)
        if self.reason and self._command and self._command.poll() is None:
            self._command.send_signal(number)
        self.reason = self.reason or signal.Signals(number).name
        if number == signal.SIGTERM and self._command:
            self._command.send_signal(signal.SIGTERM)

    def prepare(self, command: Sequence[str]) -> None:
        """Make the process of `command`, if there is one, with the privileges of this moment."""
        if command:
            self._command = HeldCommand(command)

    def start(self) -> None:
        """The probes are live: start the clock, and the command if there is one."""
        if self._duration is not None:
            self._end = time.monotonic() + self._duration
        if self._command is not None and not self.reason:
            self._command.start()

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds`, less when a signal comes or the end is near."""
        if self._end is not None:
            seconds = min(seconds, max(0.0, self._end - time.monotonic()))
        if not self.reason and self._waker.poll(seconds * 1000):
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
        if self.reason:
            return
        if self._command is not None and self._command.poll() is not None:
            self.reason = "the command ended"
        elif self._end is not None and time.monotonic() >= self._end:
            self.reason = "the duration ended"

    def exit_code(self) -> int:
        """Wait for the command, if there is one; return the code to exit with."""
        if self._command is None:
            return 0
        if not self._command.started:  # asked to stop before it began
            return 128 + getattr(signal, self.reason, 0)
        if self.reason == "SIGTERM" and self._command.wait(_KILL_AFTER_S) is None:
            self._command.send_signal(signal.SIGKILL)
        code = self._command.wait(None) or 0
        return 128 - code if code < 0 else code
