"""Text for a terminal, a pipe or a log, which may stand still."""

from __future__ import annotations

import errno
import os
import queue
import select
import threading
import time
from typing import Protocol, TextIO

# The reader, or the terminal. A full disk may have room for the next text.
_GONE = (errno.EPIPE, errno.EIO)


class Out(Protocol):
    """What the recorder's texts are written to while it records."""

    def write(self, text: str, /) -> int:
        """Take `text`; return how much of it was taken. OSError when nobody takes it any more."""

    def flush(self) -> None:
        """Pass it on."""

    def isatty(self) -> bool:
        """Say whether it is a terminal, and one that can clear a line."""


class Outlet:
    """Writes to a stream without ever waiting for it.

    A pager that does not read on, or Ctrl-S at a terminal, would otherwise hold the recorder, and
    what the kernel has for it would be lost. A thread, started with the first text, does the
    waiting. It writes to the descriptor itself: at the end Python would wait for a stream that a
    thread is writing to.
    """

    def __init__(self, stream: TextIO, waiting: int = 8) -> None:
        """Take what is written to `stream`; at most `waiting` texts wait."""
        self._stream = stream
        self._texts: queue.Queue[str] = queue.Queue(waiting)
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def write(self, text: str, /) -> int:
        """Take `text` to be written soon; 0 when too much waits already, and it is left out.

        Raises:
            OSError: what was written before could not be.
        """
        if self._error is not None:
            raise self._error
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="outlet", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the limit of processes is reached
                return 0
            self._thread = thread
        try:
            self._texts.put_nowait(text)
        except queue.Full:
            return 0
        return len(text)

    def flush(self) -> None:
        """Do nothing: what waits is written as soon as it can be."""

    def isatty(self) -> bool:
        """Say whether it is a terminal, and one that can clear a line."""
        return self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def finish(self, seconds: float) -> None:
        """Wait until all is written, but at most `seconds`."""
        end = time.monotonic() + seconds
        while self._texts.unfinished_tasks and not self._error and time.monotonic() < end:
            time.sleep(0.01)

    def _work(self) -> None:
        while True:
            data = self._texts.get().encode(self._stream.encoding or "utf-8", "backslashreplace")
            try:
                self._write(self._stream.fileno(), data)
            except OSError as exc:
                if exc.errno in _GONE:
                    self._error = exc
                    return
            self._texts.task_done()

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # whoever opened it wants no waiting
                room = select.poll()
                room.register(descriptor, select.POLLOUT)
                room.poll()
