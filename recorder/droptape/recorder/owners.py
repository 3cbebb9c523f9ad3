"""What the recorder adds to the owners that the kernel side names.

The rules and their order are in bpf/droptape/bpf/core/owner.h. Here are those that can only be
answered later, when a walk over all open files has told who holds which socket.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.bpf.sizes import FLOW_BITS, HOLDER_ENTRIES
from droptape.format.common import OWNER_SOURCE, TCP_STATE
from droptape.format.decode import Records

# Structs of the same names in owner.h and flow.h. In port_key, 16 bits of zero follow the port.
_HOLDER = np.dtype(
    [
        ("inode", "u8"), ("started", "u8"), ("pid", "u4"), ("source", "u1"), ("shared", "u1"),
        ("comm", "S16"),
    ],
    align=True,
)  # fmt: skip
_FLOW_KEY = np.dtype(
    [("netns", "u4"), ("lport", "u2"), ("rport", "u2"), ("local", "V16"), ("remote", "V16")]
)
_FLOW_PLACE = np.dtype([("hash", "u8"), ("pid", "u4"), ("shared", "u4"), ("comm", "S16")])
_PORT_OWNER = np.dtype(
    [
        ("sk", "u8"), ("inode", "u8"), ("pid", "u4"), ("pass", "u4"), ("several", "u1"),
        ("before", "u1"), ("any", "u1"), ("addresses", "u1"), ("comm", "S16"),
        ("address", "V16", (4,)),
    ],
    align=True,
)  # fmt: skip
_RECEIVED = ("netns", "dport", "sport", "daddr", "saddr")
_SENT = ("netns", "sport", "dport", "saddr", "daddr")
_FILLED = (
    ("owner_pid", "pid"),
    ("owner_source", "source"),
    ("owner_shared", "shared"),
    ("owner_comm", "comm"),
)
_TCP, _SYN = 6, 0x02
_TAKES_IPV4, _TAKES_IPV6 = 1, 2  # socket.h
_MAPPED = int.from_bytes(b"\0\0\xff\xff", sys.byteorder)
"""The third word of an address of IPv4 among those of IPv6."""
_SYN_SENT = next(number for number, name in TCP_STATE.values.items() if name == "SYN_SENT")
_SOURCES = {name: number for number, name in OWNER_SOURCE.values.items()}
_NONE, _PORT, _FLOW_ENDED = _SOURCES["none"], _SOURCES["port"], _SOURCES["flow"]
_IO, _LISTENER = _SOURCES["io"], _SOURCES["listener"]
_MOST_FLOWS = 2000
"""How many flows are looked up for one batch."""
_BLOCK = 4096

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Questions:
    """Whose owners have to be looked up: masks of shape (n,) for a batch of n records.

    Attributes:
        sockets: have a socket that a process has open, and no certain owner yet.
        ports: went to a UDP port that no walk had seen (owner_of_udp_port).
        flows: are of TCP and met no socket.
    """

    sockets: Mask
    ports: Mask
    flows: Mask

    @classmethod
    def of(cls, records: Records) -> Questions:
        """Ask about a batch of any event kind."""
        asks = cls(*(np.zeros(len(records), bool) for _ in range(3)))
        flagged = "tcp_flags" in (records.dtype.names or ())
        # A block stays in the processor's cache for all the columns that are looked at.
        for start in range(0, len(records), _BLOCK):
            here = slice(start, start + _BLOCK)
            block = records[here]
            source, inside = block["owner_source"].copy(), block["inode"] != 0
            asks.sockets[here] = inside & (source != _IO) & (block["state"] != _SYN_SENT)
            asks.ports[here] = (source == _PORT) & (block["owner_pid"] == 0)
            flows = ~inside & (source == _NONE)
            flows &= (block["protocol"] == _TCP) & (block["sport"] != 0)
            if flagged:
                flows &= (block["tcp_flags"] & _SYN) == 0
            asks.flows[here] = flows
        return asks


class Owners:
    """The kernel's maps of owners, asked for whole batches."""

    def __init__(self, loaded: Loaded) -> None:
        self._holders = loaded.fds["map:holders"]
        self._flows = loaded.fds["map:flows"]
        self._udp_ports = loaded.fds["map:udp_ports"]

    def fill(self, records: Records, asks: Questions, last_pass: int) -> None:
        """Fill in what the maps know by now.

        Args:
            records: a batch of any event kind; changed in place.
            asks: what is asked about them.
            last_pass: number of the last walk.
        """
        if asks.ports.any():
            records[asks.ports] = self._with_ports(records[asks.ports], last_pass)
        if asks.sockets.any():
            records[asks.sockets] = self._with_holders(records[asks.sockets])
        if asks.flows.any():
            self._fill_flows(records, asks.flows)

    def _with_holders(self, asked: Records) -> Records:
        """Rules 2 and 3."""
        index = asked["inode"] % np.uint64(HOLDER_ENTRIES)
        found = _look_up(self._holders, index, _HOLDER)
        known = (found["inode"] == asked["inode"]) & (found["pid"] != 0)
        # A process that did not exist yet got the socket later, from the one that is named already.
        was_there = known & (found["started"] <= asked["mono_ns"])
        for column, member in _FILLED:
            asked[column][was_there] = found[member][was_there]
        # The process of the listener was a guess, and nobody confirmed it.
        guessed = ~known & (asked["owner_source"] == _LISTENER)
        for column, _ in _FILLED:
            asked[column][guessed] = np.zeros((), asked[column].dtype)
        return asked

    def _with_ports(self, asked: Records, last_pass: int) -> Records:
        """Rule 8, for ports that no walk had seen when the event came."""
        owner = np.zeros(1, _PORT_OWNER)
        asked["owner_source"] = _NONE
        for netns, port in np.unique(asked[["netns", "dport"]]).tolist():
            if not syscall.map_lookup(self._udp_ports, np.array([netns, port], "u4"), owner):
                continue
            if owner["pass"][0] == last_pass and not owner["several"][0]:
                rows = (asked["netns"] == netns) & (asked["dport"] == port)
                rows[rows] = _takes(owner[0], asked["daddr"][rows])
                asked["owner_pid"][rows] = owner["pid"]
                asked["owner_comm"][rows] = owner["comm"]
                asked["owner_source"][rows] = _PORT
        return asked

    def _fill_flows(self, records: Records, ask: Mask) -> None:
        """Rule 7 once more, for packets that met no socket.

        While a connection is being closed there is a moment when it is found no more and its flow
        is not remembered yet (tcp_set_state: inet_unhash lets softirqs run before the tracepoint).
        """
        asking = np.zeros(int(ask.sum()), _FLOW_KEY)
        columns = _SENT if "direction" in (records.dtype.names or ()) else _RECEIVED
        for member, column in zip(_FLOW_KEY.names or (), columns, strict=True):
            asking[member] = records[column][ask]
        hashes = flow_hash(asking)
        place = hashes & np.uint64((1 << FLOW_BITS) - 1)
        found = _look_up(self._flows, place, _FLOW_PLACE, _MOST_FLOWS)
        known = (found["hash"] == hashes) & (found["pid"] != 0)
        found, which = found[known], np.flatnonzero(ask)[known]
        for column in ("pid", "shared", "comm"):
            records[f"owner_{column}"][which] = found[column]
        records["owner_source"][which] = _FLOW_ENDED


def _takes(owner: np.void, addresses: npt.NDArray[np.void]) -> Mask:
    """Say to which of these addresses a socket of this owner takes packets: port_takes."""
    words = addresses.view("u4").reshape(-1, 4)
    mapped = (words[:, :3] == (0, 0, _MAPPED)).all(axis=1)
    any_address = owner["any"] & np.where(mapped, _TAKES_IPV4, _TAKES_IPV6) != 0
    own = owner["address"][: int(owner["addresses"])].view("u4").reshape(-1, 4)
    takes: Mask = any_address | (words[:, None] == own).all(axis=2).any(axis=1)
    return takes


def flow_hash(keys: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Return the hashes of flow keys: flow_hash in flow.h."""
    hashes = np.zeros(len(keys), np.uint64)
    for word in keys.view("u8").reshape(len(keys), -1).T:
        hashes = (hashes ^ word) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _look_up(
    map_fd: int, index: npt.NDArray[np.uint64], value: np.dtype[Any], most: int | None = None
) -> npt.NDArray[np.void]:
    """Return the elements of an array map; all zero for those beyond `most` different ones."""
    different, which = np.unique(index.astype(np.uint32), return_inverse=True)
    elements = np.zeros(len(different), value)
    for i in range(len(different[:most])):
        syscall.map_lookup(map_fd, different[i : i + 1], elements[i : i + 1])
    found: npt.NDArray[np.void] = elements[which]
    return found
