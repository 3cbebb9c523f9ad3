"""Telling what goes wrong while recording: once on the terminal or in the service's log."""

from __future__ import annotations

import contextlib
import time

from .outlet import Out

_QUIET_S = 10.0
"""Trouble is over when there was none for so long: a disk that is nearly full comes and goes."""


class Announcer:
    """Writes a line when trouble begins, and one when it is over."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._told: set[str] = set()
        self._last = 0.0
        self._lost = 0

    def update(self, trouble: str, lost: int, now: float | None = None) -> str:
        """Take what goes wrong now; return the line that was written, or "".

        Args:
            trouble: one sentence, or ""; what follows a semicolon may change without being told.
            lost: events that a full disk has cost so far.
            now: seconds as time.monotonic() gives them, which is the default.
        """
        now = time.monotonic() if now is None else now
        if trouble:
            self._last = now
            what = trouble.partition(";")[0]
            if what in self._told:
                return ""
            self._told.add(what)
            return self.say(trouble)
        if not self._told or now - self._last < _QUIET_S:
            return ""
        self._told.clear()
        more, self._lost = lost - self._lost, lost
        return self.say(f"recording to disk goes on; {more:,} events were lost meanwhile")

    def say(self, text: str) -> str:
        """Write a line; return it."""
        line = f"droptape-record: {text}"
        # The status line may be there.
        start = "\r\x1b[K" if self._out.isatty() else ""
        with contextlib.suppress(OSError):  # its disk may be the full one
            self._out.write(f"{start}{line}\n")
            self._out.flush()
        return line
