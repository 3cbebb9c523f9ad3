"""Reads the counters of all network namespaces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from droptape.format.decode import Records
from droptape.format.tables import COUNTERS

from . import parse, qdiscs
from .changes import Changes, Row
from .namespaces import Namespaces
from .parse import Reading

_NET = "/proc/thread-self/net/"
_FILES: tuple[tuple[str, Callable[[bytes], Reading]], ...] = (
    ("netstat", parse.pairs),
    ("snmp", parse.pairs),
    ("snmp6", parse.snmp6),
    ("stat/nf_conntrack", parse.conntrack),
)
_CONNTRACK_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"
_IDLE_S = 5.0
"""A namespace whose devices moved no packet is read this often."""
_QDISCS_S = 10.0
"""How often a namespace without queueing disciplines is asked whether it has some now."""
_TEXT = 1 << 16


@dataclass(slots=True)
class _Space:
    changes: Changes
    link: bytes = b""
    read_at: float = float("-inf")
    qdiscs_at: float = float("-inf")
    queues: bool = False
    texts: dict[str, bytes] = field(default_factory=dict)


class CounterReader:
    """Gives rows of COUNTERS for what changed since the last call.

    Attributes:
        refused: why a namespace could not be entered, "" when all could.
    """

    def __init__(self, spaces: Namespaces) -> None:
        self._spaces = spaces
        self._known: dict[int, _Space] = {}
        self._lives: dict[int, int] = {}
        self._host = Changes(1, None)
        self._started = False
        self._searched = (0, 0)
        self.refused = ""

    def read(self, *, all_files: bool = False) -> Records:
        """Read all namespaces.

        Args:
            all_files: also those of namespaces where nothing seems to have happened.
        """
        rows: list[tuple[int, Iterable[Row]]] = [(0, self._read_host())]
        rows += [(inum, self._forget(inum)) for inum in set(self._known) - set(self._spaces.doors)]
        for inum in list(self._spaces.doors):
            try:
                with self._spaces.inside(inum):
                    rows.append((inum, self._read_space(inum, all_files)))
            except PermissionError as exc:
                self.refused = f"{exc.filename}: {exc.strerror}"
            except OSError:
                rows.append((inum, self._forget(inum)))
                self._spaces.doors.pop(inum, None)
        self._started = True
        if self._spaces.searched_ns != self._searched[1]:
            self._searched = (self._searched[1], self._spaces.searched_ns)
        return _records(rows)

    def end(self) -> Records:
        """Return the rows that mark the last reading of each namespace."""
        return _records([(inum, space.changes.end()) for inum, space in self._known.items()])

    def _forget(self, inum: int) -> list[Row]:
        space = self._known.pop(inum, None)
        return space.changes.end() if space is not None else []

    def _read_host(self) -> list[Row]:
        reading = parse.softnet(_text("softnet_stat"))
        return self._host.update("softnet", reading, time.monotonic_ns())

    def _read_space(self, inum: int, all_files: bool) -> list[Row]:
        space = self._known.get(inum)
        new = space is None
        if space is None:
            life = self._lives[inum] = self._lives.get(inum, 0) + 1
            # A namespace that the search before did not find began after it.
            space = _Space(Changes(life, self._searched[1] if self._started else None))
        link = _text("dev")
        now = time.monotonic()
        if link == space.link and not all_files and now - space.read_at < _IDLE_S:
            return []
        space.read_at, rows = now, []
        for name, read in _FILES:
            try:
                text = _text(name)
            except FileNotFoundError:
                continue  # not in this kernel
            if text != space.texts.get(name):
                space.texts[name] = text
                rows += space.changes.update(name, read(text), time.monotonic_ns())
        rows += self._conntrack_max(space)
        if link != space.link:
            space.link = link
            rows += space.changes.update("link", parse.link(link), time.monotonic_ns())
        if space.queues or now - space.qdiscs_at >= _QDISCS_S or all_files:
            space.qdiscs_at = now
            reading = qdiscs.read()
            space.queues = bool(reading[0])
            rows += space.changes.update("qdiscs", reading, time.monotonic_ns())
        space.changes.touch(time.monotonic_ns())
        self._known[inum] = space
        return [*rows, *space.changes.begin(time.monotonic_ns())] if new else rows

    @staticmethod
    def _conntrack_max(space: _Space) -> list[Row]:
        if "stat/nf_conntrack" not in space.texts:
            return []
        try:
            value = int(_read(_CONNTRACK_MAX))
        except OSError:
            return []
        reading = ((("conntrack.max", ""),), [value])
        return space.changes.update("conntrack.max", reading, time.monotonic_ns())


def _text(name: str) -> bytes:
    return _read(_NET + name)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _TEXT)
        if not data:
            return b""
        # seq_file gives at most a page of whole records at a time.
        while more := os.read(descriptor, _TEXT):
            data += more
        return data
    finally:
        os.close(descriptor)


def _records(rows: Iterable[tuple[int, Iterable[Row]]]) -> Records:
    flat = [
        (at, inum, device.encode(), name.encode(), value)
        for inum, some in rows
        for at, device, name, value in some
    ]
    out = np.zeros(len(flat), COUNTERS.dtype)
    if flat:
        columns = zip(*flat, strict=True)
        for name, values in zip(COUNTERS.dtype.names or (), columns, strict=True):
            out[name] = values
    return out
