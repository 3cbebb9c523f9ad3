"""What a number stood for before, so that another thing with the same number is told apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Row = dict[str, object]
_MOST = 1 << 16
_SAME_NS = 2_000_000_000
"""The start of a process moves so little when it is computed again; see processes.py."""


class ProcessLives:
    """Says which rows of processes are news."""

    def __init__(self) -> None:
        self._last: dict[object, Row] = {}

    def news(self, row: Row) -> list[Row]:
        """Return `row` unless it says what the last one of its process id said."""
        before = self._last.get(row["pid"])
        if before is not None and _same_process(before, row):
            return []
        if len(self._last) >= _MOST:
            self._last.clear()
        self._last[row["pid"]] = row
        return [row]

    def forget(self, pid: int) -> None:
        """Let whatever process has this id be news."""
        self._last.pop(pid, None)


def _same_process(one: Row, other: Row) -> bool:
    return all(one.get(n) == other.get(n) for n in ("comm", "exe", "uid")) and (
        abs(int(str(one["started"])) - int(str(other["started"]))) <= _SAME_NS
    )


class NamespaceLives:
    """Says which rows of namespaces are news, and from when on they hold.

    Attributes:
        names: of the namespaces by number, as last written.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` gives UTC in nanoseconds."""
        self._clock = clock
        self.names: dict[int, object] = {}
        self._confirmed: dict[int, int] = {}
        self._ended: dict[int, int] = {}

    def news(self, row: Mapping[str, object], *, lost: bool = False) -> list[Row]:
        """Return the rows to write for what was just read of one namespace.

        Where a number means something else than before, and nothing says since when, it means
        nothing known between the two times it was read. Where it just `lost` its name, that is over
        now: who has the number next may be gone before it is looked up.
        """
        inum, now = int(str(row["inum"])), self._clock()
        known = inum in self.names
        before, read = self.names.get(inum), self._confirmed.get(inum, 0)
        since = row["since"]
        if known and lost and since is None:
            self.names[inum], self._confirmed[inum], self._ended[inum] = row["name"], now, now
            return [] if row["name"] == before else [{**row, "since": now}]
        if known and row["name"] is None and row["pid"] is None:
            return []  # it is gone
        if len(self.names) >= _MOST:
            for remembered in self.names, self._confirmed, self._ended:
                remembered.clear()
        self.names[inum], self._confirmed[inum] = row["name"], now
        if not known or since is not None:
            if since is not None and int(str(since)) <= self._ended.get(inum, 0):
                since = now  # it has its name again
            return [] if known and row["name"] == before else [{**row, "since": since}]
        if row["name"] == before:
            return []
        unknown: Row = {"inum": inum, "name": None, "pid": None, "since": read}
        return [unknown, {**row, "since": now}]
