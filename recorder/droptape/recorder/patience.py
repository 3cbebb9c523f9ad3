"""Reading what may never answer: a home on a server that is gone, a disk that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
_MOST_S, _SHARE = 0.5, 0.1
"""How long is waited at once, and how much of all time in the long run."""


class BusyError(Exception):
    """There is no answer now; ask again later."""


class Patience:
    """Runs in another thread what may wait for a disk, one thing at a time.

    The recorder's loop must not wait: meanwhile the rings fill, and the end would never come. A
    thread that hangs is left alone, and until it comes back nothing else is asked for.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._left, self._at = _MOST_S, time.monotonic()

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return what `question` returns; what it raises comes out.

        Raises:
            BusyError: it takes too long, or an earlier one does.
        """
        start = time.monotonic()
        self._left = min(_MOST_S, self._left + (start - self._at) * _SHARE)
        self._at = start
        if self._left <= 0 or (self._thread is not None and self._thread.is_alive()):
            raise BusyError
        answers: list[Answer] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                answers.append(question())
            except Exception as exc:  # noqa: BLE001 - whoever asked gets it
                errors.append(exc)

        thread = threading.Thread(target=work, name="names", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # the limit of processes is reached
            raise BusyError from exc
        thread.join(self._left)
        self._thread = thread
        self._left -= time.monotonic() - start
        if errors:
            raise errors[0]
        if not answers:
            raise BusyError
        return answers[0]
