"""The thread that samples, and the recorder's side of it."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable

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
from .settings import SettingsReader

_PERIOD_S = 1.0
_PATIENCE_S = 5.0
_SET_NAME = 15  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None)


def _name_thread(name: str) -> None:
    """Set what `top -H` shows; Python names its threads for itself only."""
    _libc.prctl(_SET_NAME, name.encode(), 0, 0, 0)


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
        self._taken: deque[tuple[Table, Records | list[Row]]] = deque()
        self._unknown: set[int] = set()
        self._seen: set[int] = set()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._trouble: dict[str, str] = {}
        self._noted: set[str] = set()

    def start(self) -> None:
        """Take the first sample: what the counters were before anything was recorded."""
        self._thread.start()
        self._ready.wait(_PATIENCE_S)

    def watch(self, table: Table, records: Records, wall_offset_ns: int) -> None:
        """Remember namespaces that a batch names, so that new ones are looked for."""
        new = set(np.unique(records["netns"]).tolist()) - self._seen - {0}
        if new:
            self._seen |= new
            self._unknown = self._unknown | new

    def deliver(self, store: Store, wall_offset_ns: int) -> None:
        """Write what was sampled since the last call."""
        while self._taken:
            table, rows = self._taken.popleft()
            if isinstance(rows, list):
                store.write_dictionary(table.name, rows)
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
        spaces = Namespaces()
        counters, settings = CounterReader(spaces), SettingsReader(spaces)
        try:
            spaces.search()
            self._sample(COUNTERS, lambda: counters.read(all_files=True))
            self._sample(LISTENERS, self._listeners.read)
            self._ready.set()
            while not self._stopping.wait(_PERIOD_S):
                if spaces.due(asked=not self._unknown <= set(spaces.doors)):
                    self._unknown = set()
                    self._search(spaces)
                self._sample(COUNTERS, counters.read)
                self._sample(LISTENERS, self._listeners.read)
                self._sample(SYSCTLS, settings.read)
                if counters.refused:
                    self._trouble.setdefault("counters", counters.refused)
            self._search(spaces)
            self._sample(COUNTERS, lambda: counters.read(all_files=True))
            self._sample(COUNTERS, counters.end)
            self._sample(LISTENERS, lambda: self._listeners.read(all_rows=True))
            self._sample(SYSCTLS, settings.read)
        finally:
            self._ready.set()
            spaces.close()

    def _search(self, spaces: Namespaces) -> None:
        try:
            spaces.search()
        except OSError as exc:
            self._trouble.setdefault("namespaces", str(exc))

    def _sample(self, table: Table, read: Callable[[], Records | list[Row]]) -> None:
        """Take one sample; what fails is noted in the recording, and tried again next time."""
        try:
            rows = read()
        except (OSError, ValueError, IndexError) as exc:
            self._trouble.setdefault(table.name, str(exc))
            return
        if len(rows):
            self._taken.append((table, rows))
