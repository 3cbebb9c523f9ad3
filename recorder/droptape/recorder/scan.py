"""The walk over all open files that tells who holds each socket."""

from __future__ import annotations

import time

import numpy as np

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.format.common import OWNER_SOURCE
from droptape.format.decode import Records

_SCAN_PASS = 0  # SETTING_SCAN_PASS in bpf/droptape/bpf/core/percpu.h
# struct holder in bpf/droptape/bpf/core/owner.h
_HOLDER = np.dtype([("pid", "u4"), ("source", "u1"), ("shared", "u1"), ("comm", "S16")], align=True)
_FILLED = (
    ("owner_pid", "pid"),
    ("owner_source", "source"),
    ("owner_shared", "shared"),
    ("owner_comm", "comm"),
)
# struct port_owner, also there. Its key has a 16-bit port and 16 bits of zero after it.
_PORT_OWNER = np.dtype(
    [("pid", "u4"), ("pass", "u4"), ("several", "u1"), ("comm", "S16")], align=True
)
_SOURCES = {name: number for number, name in OWNER_SOURCE.values.items()}
_NONE, _PORT = _SOURCES["none"], _SOURCES["port"]
_IO, _LISTENER = _SOURCES["io"], _SOURCES["listener"]
_SHARE, _SHORTEST_S = 0.002, 1.0
"""The regular walk takes at most this share of a core, and pauses at least this long."""
_ASKED_SHARE, _ASKED_SHORTEST_S = 0.02, 0.05
"""The same for walks that events ask for."""


class OwnerScan:
    """Walks all open files, regularly and when events ask for it."""

    def __init__(self, loaded: Loaded) -> None:
        self._link = loaded.fds.get("iter:task_file")
        self._settings = loaded.fds["map:settings"]
        self._holders = loaded.fds["map:holders"]
        self._udp_ports = loaded.fds["map:udp_ports"]
        self._pass = 0
        self._cost = 0.0
        self._last = 0.0

    def run_if_due(self) -> None:
        """Walk, if the last walk is long enough ago; OSError when the kernel refuses."""
        if self._rested(_SHORTEST_S, _SHARE):
            self._walk()

    def fill(self, records: Records) -> None:
        """Say of each event whose socket a process has open which process that is.

        The kernel side knew only who made the socket, or nothing. These are rules 2 and 3 of
        bpf/droptape/bpf/core/owner.h.

        Args:
            records: a batch of any event kind; changed in place.
        """
        self._fill_ports(records)
        ask = (records["inode"] != 0) & (records["owner_source"] != _IO)
        if not ask.any():
            return
        if self._rested(_ASKED_SHORTEST_S, _ASKED_SHARE):
            self._walk()
        inodes, which = np.unique(records["inode"][ask], return_inverse=True)
        holders = np.zeros(len(inodes), _HOLDER)
        for i in range(len(inodes)):
            syscall.map_lookup(self._holders, inodes[i : i + 1], holders[i : i + 1])
        asked = records[ask]
        found = holders[which]
        known = found["pid"] != 0
        for column, member in _FILLED:
            asked[column][known] = found[member][known]
        # The process of the listener was a guess, and nobody confirmed it.
        guessed = ~known & (asked["owner_source"] == _LISTENER)
        for column, _ in _FILLED:
            asked[column][guessed] = np.zeros((), asked[column].dtype)
        records[ask] = asked

    def _fill_ports(self, records: Records) -> None:
        """Say whose the UDP ports are that no walk had seen when the event came: rule 8."""
        ask = (records["owner_source"] == _PORT) & (records["owner_pid"] == 0)
        if not ask.any():
            return
        if self._rested(_ASKED_SHORTEST_S, _ASKED_SHARE):
            self._walk()
        asked, owner = records[ask], np.zeros(1, _PORT_OWNER)
        asked["owner_source"] = _NONE
        for netns, port in np.unique(asked[["netns", "dport"]]).tolist():
            if not syscall.map_lookup(self._udp_ports, np.array([netns, port], "u4"), owner):
                continue
            if not owner["several"][0]:
                rows = (asked["netns"] == netns) & (asked["dport"] == port)
                asked["owner_pid"][rows] = owner["pid"]
                asked["owner_comm"][rows] = owner["comm"]
                asked["owner_source"][rows] = _PORT
        records[ask] = asked

    def _rested(self, shortest: float, share: float) -> bool:
        pause = max(shortest, self._cost / share)
        return self._link is not None and time.monotonic() - self._last >= pause

    def _walk(self) -> None:
        assert self._link is not None
        # Processor time: on a busy machine a walk takes longer, but costs no more.
        start = time.thread_time()
        self._pass += 1
        syscall.map_update(
            self._settings, np.array([_SCAN_PASS], "u4"), np.array([self._pass], "u8")
        )
        syscall.iterate(self._link)
        self._last = time.monotonic()
        self._cost = time.thread_time() - start
