"""Watches the kernel settings of all network namespaces."""

from __future__ import annotations

import time
from collections.abc import Sequence

from droptape.recorder.sysctls import NAMES, WATCHED, Row, read_sysctls

from .namespaces import Namespaces

_OFTEN_S, _SELDOM_S = 5.0, 60.0
_SHARE = 0.0005
"""Watching takes at most this share of a core, so it is slower where there are many namespaces."""


class SettingsReader:
    """Gives rows of SYSCTLS: all settings of a new namespace, then what changed."""

    def __init__(self, spaces: Namespaces) -> None:
        self._spaces = spaces
        self._known: dict[int, dict[str, str]] = {}
        self._watched = _Due(_OFTEN_S)
        self._all = _Due(_SELDOM_S)

    def read(self) -> list[Row]:
        """Read what is due."""
        rows: list[Row] = []
        doors = self._spaces.doors
        for inum in set(self._known) - set(doors):
            del self._known[inum]
        new = [inum for inum in doors if inum not in self._known]
        for inum in new:
            self._known[inum] = {}
        rows += self._read(new, NAMES)
        if self._all.now():
            with self._all:
                rows += self._read(list(self._known), NAMES)
        elif self._watched.now():
            with self._watched:
                rows += self._read(list(self._known), WATCHED)
        return rows

    def _read(self, inums: Sequence[int], names: Sequence[str]) -> list[Row]:
        rows: list[Row] = []
        for inum in inums:
            known = self._known[inum]
            try:
                with self._spaces.inside(inum):
                    found = read_sysctls(inum, names)
            except (OSError, KeyError):
                continue  # it is gone, or closed to us; counters.py says so
            rows += [row for row in found if known.get(str(row["name"])) != row["value"]]
            known.update((str(row["name"]), str(row["value"])) for row in found)
        return rows


class _Due:
    """When to do something again that should take at most a share of a core."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest = shortest_s
        self._at = time.monotonic() + shortest_s
        self._start = 0.0

    def now(self) -> bool:
        return time.monotonic() >= self._at

    def __enter__(self) -> None:
        self._start = time.thread_time()

    def __exit__(self, *_: object) -> None:
        cost = time.thread_time() - self._start
        self._at = time.monotonic() + max(self._shortest, cost / _SHARE)
