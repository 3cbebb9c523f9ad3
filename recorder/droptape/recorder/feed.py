"""The way of a batch: from a ring to the journal and to the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.bpf.ring import Ring
from droptape.format.decode import Records
from droptape.format.schema import Table

from .process_groups import ProcessGroups
from .scan import OwnerScan
from .store import Store

Watcher = Callable[[Table, Records, int], None]
"""Sees every batch: its table, records, and UTC minus CLOCK_MONOTONIC in nanoseconds."""

_MAY_WAIT = 0.05
"""Up to this part of a ring may wait for a walk."""
_UNFINISHED_S = 1.0
"""How long a record may take to be finished."""


@dataclass(slots=True)
class _Source:
    table: Table
    ring: Ring
    settle: Callable[[Records], Records] | None


class Feed:
    """Moves records from the rings of all event kinds into a store."""

    def __init__(
        self,
        loaded: Loaded,
        tables: Sequence[Table],
        scan: OwnerScan,
        store: Store,
        groups: ProcessGroups | None = None,
    ) -> None:
        kinds = all_kinds()
        self._scan = scan
        self._groups = groups or ProcessGroups()
        self._store = store
        self._sources = [
            _Source(
                table,
                Ring(loaded.fds[f"ring:{table.name}"], kinds[table.name].ring_bytes, table.dtype),
                kinds[table.name].settle,
            )
            for table in tables
        ]
        self.watchers: list[Watcher] = []

    def drain(self, wall_offset_ns: int, *, last: bool = False) -> float:
        """Take what is there; return how full the fullest ring was, from 0 to 1.

        What needs the next walk over all open files stays in its ring for a while, if that has
        room, unless it is the `last` time.

        A batch is in the journal before its room in the ring is given back.
        """
        fullest = 0.0
        for source in self._sources:
            pending = source.ring.pending()
            if not pending:
                continue
            fill = pending / source.ring.size
            fullest = max(fullest, fill)
            # One batch: what comes meanwhile is for the next round, so no ring starves another.
            records = source.ring.read()
            if len(records) and fill < _MAY_WAIT and not last and self._scan.can_wait(records):
                continue
            if source.settle is not None:
                records = source.settle(records)
            if len(records):
                self._scan.fill(records)
                self._groups.fill(records)
                self._store.append(source.table.name, records, wall_offset_ns)
            source.ring.advance()
            if len(records):
                for watch in self.watchers:
                    watch(source.table, records, wall_offset_ns)
        return fullest

    def drain_all(self, wall_offset_ns: Callable[[], int]) -> bool:
        """Take everything; return False when something is left that cannot be read.

        The probes have to be detached: while events keep coming there is no end.

        A task that dies in the midst of a program, which takes a bug of the kernel, leaves a record
        that is never finished, and nothing behind it in its ring can be read.
        """
        left, since = 0.0, time.monotonic()
        while (fill := self.drain(wall_offset_ns(), last=True)) > 0:
            if fill != left:
                left, since = fill, time.monotonic()
            elif time.monotonic() - since > _UNFINISHED_S:
                return False
        return True

    def close(self) -> None:
        """Unmap the rings."""
        for source in self._sources:
            source.ring.close()
