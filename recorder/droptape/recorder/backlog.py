"""What is kept in memory while the disk takes nothing, and the count of what did not fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from droptape.format.amount import amounts
from droptape.format.decode import Records
from droptape.format.schema import Table
from droptape.format.tables import LOSS_CAUSE, LOSSES
from droptape.format.types import MONO

_SECOND = 1_000_000_000
_RESERVE = 8 << 20
_MAX_INTERVALS = 4096

_DISK_FULL = next(n for n, name in LOSS_CAUSE.values.items() if name == "disk_full")


@dataclass(slots=True)
class Batch:
    """Rows as a frame of a journal, how many events they stand for, and when they came."""

    table: str
    frame: bytes
    rows: int
    events: int = 0
    mono_ns: int = 0


class Backlog:
    """Batches in the order they came, up to `limit` bytes.

    Series such as totals and losses are small and make the account exact, so they have a reserve
    that rows of events cannot use up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._batches: deque[Batch] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._batches)

    def hold(self, batch: Batch, role: str) -> bool:
        """Keep `batch`; False when there is no room."""
        limit = self._limit if role == "events" else self._limit + _RESERVE
        if self.bytes + len(batch.frame) > limit:
            return False
        self._batches.append(batch)
        self.bytes += len(batch.frame)
        return True

    def drain(self) -> Iterator[Batch]:
        """Yield the batches, oldest first; one is dropped when the next is asked for."""
        while self._batches:
            yield self._batches[0]
            self.bytes -= len(self._batches.popleft().frame)


class LostRows:
    """Events that were dropped, per table and second of CLOCK_MONOTONIC.

    A disk can stay full for weeks: beyond 4096 entries the seconds are merged into longer
    intervals.
    """

    def __init__(self) -> None:
        self._width = _SECOND
        self._events: dict[tuple[str, int], int] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, table: Table, records: Records) -> None:
        """Count `records` as lost."""
        mono = next((c.name for c in table if c.type is MONO), None)
        times = records[mono] if mono else np.zeros(len(records), np.uint64)
        # In whole seconds here: `put` may widen the intervals in between.
        intervals, index = np.unique(times // np.uint64(_SECOND), return_inverse=True)
        sums = np.zeros(len(intervals), np.uint64)
        np.add.at(sums, index, amounts(records))
        for interval, events in zip(intervals.tolist(), sums.tolist(), strict=True):
            self.put(table.name, interval * _SECOND, events)

    def put(self, table: str, mono_ns: int, events: int) -> None:
        """Count `events` as lost at `mono_ns`."""
        key = (table, mono_ns // self._width)
        self._events[key] = self._events.get(key, 0) + events
        if len(self._events) > _MAX_INTERVALS:
            self._widen()

    def _widen(self) -> None:
        merged: dict[tuple[str, int], int] = {}
        for (table, interval), events in self._events.items():
            key = (table, interval // 2)
            merged[key] = merged.get(key, 0) + events
        self._width *= 2
        self._events = merged

    def records(self) -> Records:
        """Return what was counted as rows of the losses table."""
        rows = [
            ((interval + 1) * self._width, table, _DISK_FULL, events)
            for (table, interval), events in self._events.items()
        ]
        return np.array(rows, LOSSES.dtype)

    def clear(self) -> None:
        """Count from zero again."""
        self._events.clear()
        self._width = _SECOND
