"""The walk over all open files that tells who holds each socket."""

from __future__ import annotations

import time

import numpy as np

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.format.decode import Records

from .owners import Owners, Questions

_SCAN_PASS = 0  # SETTING_SCAN_PASS in bpf/droptape/bpf/core/percpu.h
_SHARE, _SHORTEST_S = 0.002, 1.0
"""The regular walk takes at most this share of a core, and pauses at least this long."""
_ASKED_SHARE, _ASKED_SHORTEST_S = 0.02, 0.05
"""The same for walks that events ask for."""
_PATIENCE_NS = 500_000_000
"""How long events may wait for a walk, in nanoseconds."""


class OwnerScan:
    """Walks all open files, regularly and when events ask for it.

    Attributes:
        refused: why the kernel refused a walk, "" when it never did.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._link = loaded.fds.get("iter:task_file")
        self._settings = loaded.fds["map:settings"]
        self._owners = Owners(loaded)
        self._pass = 0
        self._cost = 0.0
        self._last = 0.0
        self._last_ns = 0
        self.refused = ""

    def run_if_due(self) -> None:
        """Walk, if the last walk is long enough ago; `refused` says why one failed."""
        if self._rested(_SHORTEST_S, _SHARE):
            self._walk()

    def can_wait(self, records: Records) -> bool:
        """Say whether `records` had better wait for the next walk, which may not begin yet.

        A process that got a socket after the last walk is known only by the next. Waiting has an
        end, because on a host with very many open files the next walk may be far.
        """
        if self._link is None or self._rested(_ASKED_SHORTEST_S, _ASKED_SHARE):
            return False
        if time.monotonic_ns() - int(records["mono_ns"][0]) > _PATIENCE_NS:
            return False
        return self._needs_walk(records, Questions.of(records))

    def fill(self, records: Records) -> None:
        """Say of each event who owned its socket, as far as the kernel side did not know.

        Args:
            records: a batch of any event kind; changed in place.
        """
        asks = Questions.of(records)
        if self._needs_walk(records, asks) and self._rested(_ASKED_SHORTEST_S, _ASKED_SHARE):
            self._walk()
        self._owners.fill(records, asks, self._pass)

    def _needs_walk(self, records: Records, asks: Questions) -> bool:
        """Say whether an event whose owner has to be looked up is younger than the last walk."""
        ask = asks.sockets | asks.ports
        return bool(ask.any()) and int(records["mono_ns"][ask].max()) > self._last_ns

    def _rested(self, shortest: float, share: float) -> bool:
        pause = max(shortest, self._cost / share)
        return self._link is not None and time.monotonic() - self._last >= pause

    def _walk(self) -> None:
        assert self._link is not None
        # Processor time: on a busy machine a walk takes longer, but costs no more.
        start = time.thread_time()
        self._last_ns = time.monotonic_ns()
        self._pass += 1
        syscall.map_update(
            self._settings, np.array([_SCAN_PASS], "u4"), np.array([self._pass], "u8")
        )
        try:
            syscall.iterate(self._link)
        except OSError as exc:  # no memory, no descriptors: owners are unknown until the next walk
            self.refused = exc.strerror or str(exc)
        self._last = time.monotonic()
        self._cost = time.thread_time() - start
