"""The status line on a terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping

from .outlet import Out


def bytes_text(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class StatusLine:
    """One line that is written over again; silent when `out` is not a terminal."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self.enabled = out.isatty()
        self._start = self._last_time = time.monotonic()
        self._last: dict[str, int] = {}

    def update(self, events: Mapping[str, int], lost: int, stored_bytes: int, note: str) -> None:
        """Show the counts so far.

        Args:
            events: per table, all events since the start.
            lost: events that could not be recorded.
            stored_bytes: size of the recording.
            note: trouble to show, or "".
        """
        if not self.enabled:
            return
        now = time.monotonic()
        span = max(now - self._last_time, 1e-3)
        parts = [f"recording {now - self._start:.0f} s"]
        for table, count in events.items():
            rate = (count - self._last.get(table, 0)) / span
            parts.append(f"{table} {count:,}" + (f" ({rate:,.0f}/s)" if rate >= 0.5 else ""))
        parts.append(f"lost {lost:,}")
        parts.append(bytes_text(stored_bytes))
        if note:
            parts.append(note)
        self._last, self._last_time = dict(events), now
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[K" + "  ".join(parts)[:width])

    def clear(self) -> None:
        """Remove the line."""
        if self.enabled:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:  # the terminal is gone
            self.enabled = False
