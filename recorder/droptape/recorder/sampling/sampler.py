"""The thread that samples, and the recorder's side of it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from droptape.bpf.client import Loaded
from droptape.format.decode import Records
from droptape.format.schema import Table
from droptape.format.tables import COUNTERS, LISTENERS, SYSCTLS
from droptape.recorder.feed import Watcher
from droptape.recorder.store import Store
from droptape.recorder.sysctls import Row

from .counters import CounterReader
from .listeners import ListenerReader
from .namespaces import Namespaces
from .processors import UnwatchedProcessors
from .settings import SettingsReader

_REFUSED = "listen"
_PERIOD_S = 1.0
_PATIENCE_S = 5.0
_PAUSE_S = 0.02
_LONGEST_S = 60.0
"""What fails is tried again after a second, then ever more seldom, up to this."""
_SET_NAME = 15  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None)


def _name_thread(name: str) -> None:
    """Set what `top -H` shows; Python names its threads for itself only."""
    _libc.prctl(_SET_NAME, name.encode(), 0, 0, 0)


@dataclass(slots=True)
class _Readers:
    """What reads in namespaces. It is made once: it knows what was read, and the way home."""

    spaces: Namespaces
    counters: CounterReader
    settings: SettingsReader


class Sampler:
    """Samples once a second in a thread of its own; the recorder's loop never waits for it.

    Reading a counter can wait for a lock of the kernel, and entering a namespace is for a whole
    thread.
    """

    def __init__(self, loaded: Loaded, watcher: Watcher) -> None:
        """Prepare.

        Args:
            loaded: the attached programs.
            watcher: sees every batch of records that `deliver` writes.
        """
        self._watcher = watcher
        self._listeners = ListenerReader(loaded)
        self._processors = UnwatchedProcessors(loaded)
        self._taken: deque[tuple[Table, Records | list[Row]]] = deque()
        self._unknown: set[int] = set()
        self._seen: set[int] = set()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._trouble: dict[str, str] = {}
        self._noted: set[str] = set()
        self._readers: _Readers | None = None
        self._waits: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def start(self, meanwhile: Callable[[], object]) -> None:
        """Take the first sample: what the counters were before anything was recorded.

        Args:
            meanwhile: called again and again until the sample is there.
        """
        self._thread.start()
        end = time.monotonic() + _PATIENCE_S
        while not self._ready.wait(_PAUSE_S) and time.monotonic() < end:
            meanwhile()

    def watch(self, table: Table, records: Records, wall_offset_ns: int) -> None:
        """Remember namespaces that a batch names, so that new ones are looked for."""
        new = set(np.unique(records["netns"]).tolist()) - self._seen - {0}
        if new:
            self._seen |= new
            self._unknown = self._unknown | new

    def deliver(
        self, store: Store, wall_offset_ns: int, learn: Callable[[list[Row]], None]
    ) -> None:
        """Write what was sampled since the last call.

        Args:
            store: gets the series.
            wall_offset_ns: UTC minus CLOCK_MONOTONIC.
            learn: gets the rows of SYSCTLS, of which a file each second would be too many.
        """
        while self._taken:
            table, rows = self._taken.popleft()
            if isinstance(rows, list):
                learn(rows)
            else:
                store.append(table.name, rows, wall_offset_ns)
                self._watcher(table, rows, wall_offset_ns)
        for what, text in list(self._trouble.items()):
            if what not in self._noted:
                self._noted.add(what)
                with store.update() as manifest:
                    manifest.notes.append(f"{what} are incomplete: {text}")

    def stop(self) -> None:
        """Take the last sample; call it while the probes are still attached."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        _name_thread("sampler")
        try:
            self._search()
            self._sample_all(all_files=True)
            self._ready.set()
            while not self._stopping.wait(_PERIOD_S):
                if self._search_is_due():
                    self._unknown = set()
                    self._search()
                self._sample_all()
                self._sample_settings()
            self._search()
            self._sample_all(all_files=True, last=True)
            self._sample_settings()
        finally:
            self._ready.set()
            if self._readers is not None:
                self._readers.spaces.close()

    def _search_is_due(self) -> bool:
        if self._readers is None:
            return True
        spaces = self._readers.spaces
        return spaces.due(asked=not self._unknown <= set(spaces.doors))

    def _search(self) -> None:
        self._attempt("namespaces", self._look)

    def _look(self) -> None:
        if self._readers is None:
            spaces = Namespaces()
            self._readers = _Readers(spaces, CounterReader(spaces), SettingsReader(spaces))
        self._readers.spaces.search()

    def _sample_all(self, *, all_files: bool = False, last: bool = False) -> None:
        if self._readers is not None:
            counters = self._readers.counters
            self._sample(COUNTERS, lambda: counters.read(all_files=all_files))
            if last:
                self._sample(COUNTERS, counters.end)
            if counters.refused:
                self._trouble.setdefault(COUNTERS.name, counters.refused)
        self._sample(LISTENERS, lambda: self._listeners.read(all_rows=last))
        if self._listeners.crowded:
            self._trouble.setdefault(LISTENERS.name, self._listeners.crowded)
        self._attempt(_REFUSED, self._look_at_processors)

    def _look_at_processors(self) -> None:
        came = self._processors.came()
        if came:
            self._trouble.setdefault(_REFUSED, came)

    def _sample_settings(self) -> None:
        if self._readers is not None:
            self._sample(SYSCTLS, self._readers.settings.read)

    def _sample(self, table: Table, read: Callable[[], Records | list[Row]]) -> None:
        rows = self._attempt(table.name, read)
        if rows is not None and len(rows):
            self._taken.append((table, rows))

    def _attempt(
        self, what: str, read: Callable[[], Records | list[Row] | None]
    ) -> Records | list[Row] | None:
        """Read, if it is time to; what fails is noted in the recording, and tried again later.

        Whatever goes wrong: an exception that left the thread would end all sampling.
        """
        if time.monotonic() < self._due.get(what, 0.0) and not self._stopping.is_set():
            return None
        try:
            taken = read()
        except Exception as exc:  # noqa: BLE001
            name = "" if isinstance(exc, OSError) else f"{type(exc).__name__}: "
            self._trouble.setdefault(what, f"{name}{exc}")
            wait = self._waits[what] = min(2 * self._waits.get(what, _PERIOD_S / 2), _LONGEST_S)
            # A little less, because the thread's own period is not exact.
            self._due[what] = time.monotonic() + wait - _PERIOD_S / 2
            return None
        self._waits.pop(what, None)
        return taken
