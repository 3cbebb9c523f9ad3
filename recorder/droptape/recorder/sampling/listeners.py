"""Samples all listening sockets, by the iterator in bpf/droptape/bpf/core/depth.h."""

from __future__ import annotations

import time

import numpy as np

from droptape.bpf import sizes, syscall
from droptape.bpf.client import Loaded
from droptape.format.decode import Records
from droptape.format.tables import LISTENERS

_MISSED = 3  # SETTING_LISTENERS_MISSED in bpf/droptape/bpf/core/percpu.h
_KEY = ["netns", "laddr", "lport", "inode"]


def _bytes(rows: Records) -> list[bytes]:
    size, data = rows.dtype.itemsize, rows.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


class ListenerReader:
    """Gives rows of LISTENERS for the sockets that changed since the last call.

    Attributes:
        crowded: why sockets may be missing: more listen than are watched; "" if none is.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._link = loaded.fds.get("iter:bpf_map_elem")
        self._settings = loaded.fds.get("map:settings")
        self.crowded = ""
        self._raw = b""
        self._last: dict[bytes, bytes] = {}

    def read(self, *, all_rows: bool = False) -> Records:
        """Sample; OSError when the kernel refuses.

        Args:
            all_rows: also sockets that did not change.
        """
        self._look_for_missed()
        if self._link is None:
            return np.zeros(0, LISTENERS.dtype)
        raw = syscall.iterate(self._link)
        if raw == self._raw and not all_rows:
            return np.zeros(0, LISTENERS.dtype)
        self._raw = raw
        return self.changed(np.frombuffer(raw, LISTENERS.dtype), all_rows=all_rows)

    def changed(self, rows: Records, *, all_rows: bool = False) -> Records:
        """Return those of `rows` that differ from the last time, and the sockets that are gone."""
        current = dict(zip(_bytes(_packed(rows)), _bytes(rows), strict=True))
        parts = [row for key, row in current.items() if all_rows or self._last.get(key) != row]
        gone = [row for key, row in self._last.items() if key not in current]
        self._last = current
        self._look_for_crowds(rows)
        out = np.frombuffer(b"".join(parts + gone), LISTENERS.dtype).copy()
        out["mono_ns"] = time.monotonic_ns()
        out["open"][len(parts) :] = 0
        return out

    def _look_for_missed(self) -> None:
        if self._settings is None or self.crowded:
            return
        missed = np.zeros(1, "u8")
        syscall.map_lookup(self._settings, np.array([_MISSED], "u4"), missed)
        if missed[0]:
            self.crowded = (
                f"{sizes.LISTENER_ENTRIES:,} listening sockets are watched at most; what others "
                "refuse has no listener"
            )

    def _look_for_crowds(self, rows: Records) -> None:
        ports, counts = np.unique(rows[["netns", "lport"]], return_counts=True)
        for netns, port in ports[counts >= sizes.LISTENER_SLOTS].tolist():
            self.crowded = (
                f"{sizes.LISTENER_SLOTS} sockets listen on port {port} of network namespace "
                f"{netns}; no more are watched, and what others refuse has no listener"
            )


def _packed(rows: Records) -> Records:
    """Return the columns that tell sockets apart, without the gaps between them."""
    packed = np.dtype([(name, LISTENERS.dtype[name]) for name in _KEY])
    keys = np.zeros(len(rows), packed)
    for name in _KEY:
        keys[name] = rows[name]
    return keys
