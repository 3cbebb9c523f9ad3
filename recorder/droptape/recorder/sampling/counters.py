"""Reads the counters of all network namespaces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from droptape.format.decode import Records
from droptape.format.tables import COUNTERS

from . import parse, qdiscs
from .changes import Changes, Row
from .namespaces import Namespaces, namespace_cookie
from .parse import Reading

_NET = "/proc/thread-self/net/"
_FILES: tuple[tuple[str, Callable[[bytes], Reading]], ...] = (
    ("netstat", parse.pairs),
    ("snmp", parse.pairs),
    ("snmp6", parse.snmp6),
    ("stat/nf_conntrack", parse.conntrack),
)
_CONNTRACK_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"
_IDLE_S = 15.0
"""A namespace whose devices moved no packet is read this often."""
_QDISCS_S = 10.0
"""How often a namespace without queueing disciplines is asked whether it has some now."""
_SHARE = 0.006
"""Share of a core that reading takes: where there are many namespaces, they are read in turn."""
_TEXT = 1 << 16


@dataclass(slots=True)
class _Space:
    changes: Changes
    cookie: int = 0
    link: bytes = b""
    read_at: float = float("-inf")
    qdiscs_at: float = float("-inf")
    queues: bool = False
    texts: dict[str, bytes] = field(default_factory=dict)


class CounterReader:
    """Gives rows of COUNTERS for what changed since the last call.

    Attributes:
        refused: what could not be read and why, "" when all could.
    """

    def __init__(self, spaces: Namespaces) -> None:
        self._spaces = spaces
        self._known: dict[int, _Space] = {}
        self._lives: dict[int, int] = {}
        self._ended: dict[int, tuple[int, int]] = {}
        self._host = Changes(1, None)
        self._looked: dict[int, float] = {}
        self._last = time.monotonic()
        self.refused = ""

    def read(self, *, all_files: bool = False) -> Records:
        """Read the own namespace, new ones, and of the others as many as `_SHARE` allows.

        Args:
            all_files: read all, also where nothing seems to have happened.
        """
        gone = set(self._known) - set(self._spaces.doors)
        parts = [_records(inum, self._forget(inum)) for inum in gone]
        parts.append(self._read_host())
        parts += [self._read_one(inum, all_files) for inum in self._in_turn(all_files)]
        return _joined(parts)

    def _read_one(self, inum: int, all_files: bool) -> Records:
        """Read a namespace; whatever goes wrong costs no other one its rows."""
        try:
            with self._spaces.inside(inum):
                return _records(inum, self._read_space(inum, all_files))
        except PermissionError as exc:
            self.refused = f"cannot enter {exc.filename}: {exc.strerror}"
            return _records(inum, ())
        except OSError:
            self._spaces.doors.pop(inum, None)
        except Exception as exc:  # noqa: BLE001
            self.refused = f"namespace {inum}: {type(exc).__name__}: {exc}"
        # Its rows are lost, so what they would have said has to be said anew.
        return _records(inum, self._forget(inum))

    def _in_turn(self, all_files: bool) -> Iterator[int]:
        """Yield the namespaces to read now, those that wait longest first."""
        now, start = time.monotonic(), time.thread_time()
        allowed, self._last = _SHARE * (now - self._last), now
        doors, never = self._spaces.doors, float("-inf")
        self._looked = {inum: self._looked.get(inum, never) for inum in doors}
        self._looked[self._spaces.home] = never
        turn = 0
        for inum in sorted(doors, key=self._looked.__getitem__):
            if not all_files and self._looked[inum] != never:
                if turn and time.thread_time() - start >= allowed:
                    return
                turn += 1
            self._looked[inum] = time.monotonic()
            yield inum

    def end(self) -> Records:
        """Return the rows that mark the last reading of each namespace."""
        return _joined(_records(i, space.changes.end()) for i, space in self._known.items())

    def _forget(self, inum: int) -> list[Row]:
        space = self._known.pop(inum, None)
        if space is None:
            return []
        self._ended[inum] = space.changes.ends_ns, space.cookie
        return space.changes.end()

    def _begin(self, inum: int, born_ns: int | None) -> _Space:
        life = self._lives[inum] = self._lives.get(inum, 0) + 1
        return _Space(Changes(life, born_ns))

    def _born_ns(self, inum: int, cookie: int) -> int | None:
        """Return when the counters of a namespace that is read for the first time were 0.

        None where they need never have been: it only could not be read, or not be found, as when
        no more than a descriptor keeps a namespace for a while.
        """
        born, before = self._spaces.born_after[inum], self._ended.get(inum)
        if born is None or before is None:
            return born
        ended, known = before
        return None if ended > born or (cookie and cookie == known) else born

    def _read_host(self) -> Records:
        try:
            reading = parse.softnet(_text("softnet_stat"))
        except (OSError, ValueError, IndexError) as exc:
            self.refused = f"softnet_stat: {exc}"
            return _records(0, ())
        return _records(0, self._host.update("softnet", reading, time.monotonic_ns()))

    def _read_space(self, inum: int, all_files: bool) -> list[Row]:
        space = self._known.get(inum)
        before_ns, now = time.monotonic_ns(), time.monotonic()
        link, link_ns = _text("dev"), time.monotonic_ns()
        rested = space is None or all_files or now - space.read_at >= _IDLE_S
        if not rested and space is not None and link == space.link:
            return []
        readings = {
            name: (text, read, time.monotonic_ns())
            for name, read in _FILES
            if (text := _text(name))
        }
        rows: list[Row] = []
        born: int | None
        cookie = namespace_cookie()
        if space is not None and (
            cookie != space.cookie or space.changes.is_another(parse.pairs(readings["snmp"][0]))
        ):
            rows += self._forget(inum)
            space, born = None, self._ended[inum][0]
        else:
            born = self._born_ns(inum, cookie)
        new = space is None
        space = space or self._begin(inum, born)
        space.read_at, space.cookie = now, cookie
        for name, (text, read, read_ns) in readings.items():
            if text != space.texts.get(name):
                space.texts[name] = text
                rows += space.changes.update(name, read(text), read_ns)
        if link != space.link:
            space.link = link
            rows += space.changes.update("link", parse.link(link), link_ns)
        if "stat/nf_conntrack" in readings:
            rows += self._conntrack_max(space)
        if space.queues or now - space.qdiscs_at >= _QDISCS_S or all_files:
            space.qdiscs_at = now
            rows += self._qdiscs(space)
        space.changes.touch(before_ns, time.monotonic_ns())
        self._known[inum] = space
        return [*rows, *space.changes.begin(before_ns)] if new else rows

    def _qdiscs(self, space: _Space) -> list[Row]:
        try:
            reading = qdiscs.read()
        except OSError as exc:
            self.refused = f"queueing disciplines: {exc}"
            return []
        space.queues = bool(reading[0])
        return space.changes.update("qdiscs", reading, time.monotonic_ns())

    @staticmethod
    def _conntrack_max(space: _Space) -> list[Row]:
        try:
            value = int(_read(_CONNTRACK_MAX))
        except OSError:
            return []
        reading = ((("conntrack.max", ""),), [value])
        return space.changes.update("conntrack.max", reading, time.monotonic_ns())


def _text(name: str) -> bytes:
    """Return a file of the namespace that the thread is in; nothing if this kernel has none."""
    try:
        return _read(_NET + name)
    except FileNotFoundError:
        return b""


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


def _joined(parts: Iterable[Records]) -> Records:
    # Not np.concatenate, which leaves out the gaps between columns.
    return np.frombuffer(b"".join(part.tobytes() for part in parts), COUNTERS.dtype)


def _records(inum: int, rows: Iterable[Row]) -> Records:
    flat = [(at, inum, device.encode(), name.encode(), value) for at, device, name, value in rows]
    out = np.zeros(len(flat), COUNTERS.dtype)
    if flat:
        columns = zip(*flat, strict=True)
        for name, values in zip(COUNTERS.dtype.names or (), columns, strict=True):
            out[name] = values
    return out
