"""The one background thread of a store."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable

import pyarrow as pa

from droptape.format.errors import DroptapeError

from . import memory
from .jobs import Job
from .ledger import Ledger

_RETRY_SECONDS = 5.0
_MOST_HELD = 16 << 20
"""Bytes that refused jobs may hold: a disk can stay full for weeks, and names come all the time."""
_LEFT_OUT = "names of processes, control groups and namespaces are missing: the disk was full"
_TOLD = 3
"""Failures that are told at the end; of more only the number."""


class Worker:
    """Runs jobs one after the other, and again later when the disk refused.

    A job that fails in another way is given up and noted in the manifest: its journal stays, is
    readable, and the next recovery tries again. The thread itself never ends before `close`.
    """

    def __init__(self, ledger: Ledger, waiting: int = 8) -> None:
        """Start the thread; at most `waiting` jobs wait, so that work cannot pile up unseen."""
        # Arrow's own allocator keeps twice as much, and cannot be told to give it back.
        pa.set_memory_pool(pa.system_memory_pool())
        self._ledger = ledger
        self._queue: queue.Queue[Job | None] = queue.Queue(waiting)
        self._refused: list[tuple[Job, float]] = []
        self._lock = threading.Lock()
        self._trouble: dict[str, str] = {}
        self._given_up: list[str] = []
        self._thread = threading.Thread(target=self._work, name="seal", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What does not work now, or ""."""
        with self._lock:
            if not self._thread.is_alive():
                return "the sealing thread has ended"
            return next(iter(self._trouble.values()), "")

    def submit(self, job: Job) -> bool:
        """Queue `job`; False when too much is waiting already: ask again later."""
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            return False
        return True

    def retry(self) -> None:
        """Queue again what the disk refused a while ago."""
        now = time.monotonic()
        with self._lock:
            due = [job for job, since in self._refused if now - since >= _RETRY_SECONDS]
            self._refused = [item for item in self._refused if item[0] not in due]
        for job in due:
            if not self.submit(job):
                with self._lock:
                    self._refused.append((job, now))

    def close(self, last: Iterable[Job] = ()) -> list[str]:
        """Finish all that waits and `last`, try once more what was refused, and end the thread.

        Returns:
            What is still not done: the first failures, one sentence each, and how many more.
        """
        for job in last:
            self._put(job)
        self._put(None)
        self._thread.join()
        refused, self._refused = self._refused, []
        for job, _ in refused:
            self._run(job)
        failures = [
            *self._given_up,
            *(f"{job.name} was not written: {self._trouble[job.name]}" for job, _ in self._refused),
        ]
        more = len(failures) - _TOLD
        return [*failures[:_TOLD], f"nor were {more} more"] if more > 1 else failures

    def _put(self, job: Job | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(job, timeout=1)
            except queue.Full:
                continue
            return
        if job is not None:
            self._run(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._run(job)
            if self._queue.empty():
                memory.give_back()

    def _run(self, job: Job) -> None:
        try:
            job.run()
        except OSError as exc:
            with self._lock:
                if self._keep(job):
                    self._trouble[job.name] = exc.strerror or str(exc)
        except Exception as exc:  # noqa: BLE001 - a bug must not end the thread: others still work
            ours = isinstance(exc, DroptapeError)
            told = str(exc) if ours else f"{job.name} was not sealed: {exc!r}"
            self._ledger.note(told)
            with self._lock:
                self._trouble[job.name] = told
                self._given_up.append(told)
        else:
            with self._lock:
                self._trouble.pop(job.name, None)

    def _keep(self, job: Job) -> bool:
        """Keep a refused job for later, unless the like of it waits; False if too much does."""
        waiting = [other for other, _ in self._refused]
        if job.held_bytes and sum(other.held_bytes for other in waiting) > _MOST_HELD:
            self._ledger.note(_LEFT_OUT)
            return False
        if all(other.name != job.name for other in waiting):
            self._refused.append((job, time.monotonic()))
        return True
