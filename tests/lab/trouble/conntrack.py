"""A connection tracking table without room.

Its limit, nf_conntrack_max, is the whole host's and is left alone. Each namespace counts its own
entries against it, so the table of one is filled with entries made by hand.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lab.net import Host
from lab.process import LabError

_TABLE = "inet droptape_conntrack"
_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_MOST = 1_000_000
_BATCH = 800

# include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_conntrack_common.h
_NETLINK_NETFILTER, _CT_NEW, _CREATE = 12, 1 << 8, 0x401  # NLM_F_CREATE | NLM_F_REQUEST
_NESTED = 0x8000
_ASSURED = 0xE  # IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED


def _attribute(kind: int, data: bytes) -> bytes:
    padding = bytes(-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + data + padding


def _nest(kind: int, *inner: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(inner))


def _tuple(kind: int, source: bytes, destination: bytes) -> bytes:
    ports = _attribute(2, struct.pack("!H", 53)) + _attribute(3, struct.pack("!H", 53))
    return _nest(
        kind,
        _nest(1, _attribute(1, source), _attribute(2, destination)),
        _nest(2, _attribute(1, bytes([socket.IPPROTO_UDP])), ports),
    )


def _message(client: bytes) -> bytes:
    server = bytes([10, 255, 255, 254])
    body = struct.pack("!BBH", socket.AF_INET, 0, 0)
    body += _tuple(1, client, server) + _tuple(2, server, client)
    body += _attribute(3, struct.pack("!I", _ASSURED)) + _attribute(7, struct.pack("!I", 600))
    return struct.pack("=IHHII", 16 + len(body), _CT_NEW, _CREATE, 0, 0) + body


def _fill(count: int) -> None:
    mark = bytes([11, 22, 33, 44])
    one = _message(mark)
    first = one.index(mark)
    second = one.index(mark, first + 1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        asking.bind((0, 0))
        for start in range(0, count, _BATCH):
            numbers = np.arange(start, min(start + _BATCH, count), dtype=np.uint32)
            addresses = (numbers + 0x0B000001).astype(">u4").view(np.uint8).reshape(-1, 4)
            batch = np.tile(np.frombuffer(one, np.uint8), (len(numbers), 1))
            batch[:, first : first + 4] = addresses
            batch[:, second : second + 4] = addresses
            asking.send(batch.tobytes())


@contextlib.contextmanager
def full_conntrack(host: Host) -> Iterator[int]:
    """Let `host` track connections, with a table that is full; give its size.

    LabError where the table is too large to be filled, or cannot be.
    """
    size = int(_MAX.read_text())
    if size > _MOST:
        raise LabError(f"the connection tracking table is too large to be filled: {size}")
    host.nft(
        f"table {_TABLE} {{\n"
        f"  chain track {{\n"
        f"    type filter hook prerouting priority 0\n"
        f"    ct state invalid counter\n"
        f"  }}\n"
        f"}}\n"
    )
    try:
        host.call(_fill, size)
        yield size
    finally:
        host.nft(f"delete table {_TABLE}")
