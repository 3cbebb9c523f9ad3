"""Which numbers were seen lately."""

from __future__ import annotations

import time
from collections.abc import Set


class Seen:
    """Numbers that need not be looked up again; all are forgotten now and then.

    The kernel gives numbers again, and a recording of weeks sees more than memory should hold.
    """

    def __init__(self, keep_s: float, most: int = 1 << 16) -> None:
        """Forget everything after `keep_s` seconds, and when there are more than `most`."""
        self._keep_s = keep_s
        self._most = most
        self._numbers: set[int] = set()
        self._since = time.monotonic()

    def new(self, numbers: Set[int]) -> set[int]:
        """Return those of `numbers` that were not seen lately; from now on they were."""
        now = time.monotonic()
        if len(self._numbers) > self._most or now - self._since > self._keep_s:
            self._numbers, self._since = set(), now
        new = set(numbers - self._numbers)
        self._numbers |= new
        return new

    def forget(self, number: int) -> None:
        """Let `number` be new again."""
        self._numbers.discard(number)
