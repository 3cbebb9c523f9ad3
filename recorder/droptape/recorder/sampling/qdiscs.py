"""Drops of queueing disciplines, by rtnetlink (rtnetlink(7); no text file has them)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from .parse import Key, Reading

# include/uapi/linux/rtnetlink.h, netlink.h, pkt_sched.h, gen_stats.h
_RTM_NEWQDISC, _RTM_GETQDISC = 36, 38
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCA_KIND, _TCA_STATS2, _TCA_STATS_QUEUE = 1, 7, 3
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_HEADER = struct.Struct("=IHHII")
_TC = struct.Struct("=BxxxiIII")
_ATTRIBUTE = struct.Struct("=HH")
_QUEUE = struct.Struct("=IIIII")  # qlen, backlog, drops, requeues, overlimits
_TIMEOUT_S = 2.0


def read() -> Reading:
    """Ask the caller's namespace; OSError when it does not answer.

    Only what is at the root of a device, which has counted the drops of what is below it, and at
    its ingress.
    """
    keys: list[Key] = []
    values: list[int] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as asking:
        asking.settimeout(_TIMEOUT_S)
        request = _TC.pack(0, 0, 0, 0, 0)
        size = _HEADER.size + len(request)
        asking.send(_HEADER.pack(size, _RTM_GETQDISC, _NLM_F_REQUEST_DUMP, 1, 0) + request)
        while True:
            data = asking.recv(1 << 16)
            for index, parent, kind, drops in parse(data):
                if kind == "noqueue" or parent not in (_ROOT, _INGRESS):
                    continue
                name = "qdisc.drops" if parent == _ROOT else "qdisc.ingress_drops"
                try:
                    device = os.fsencode(socket.if_indextoname(index))
                except OSError:
                    continue  # the device is gone
                keys.append((name, device.decode("utf-8", "backslashreplace")))
                values.append(drops)
            if ended(data):
                return tuple(keys), values


def ended(data: bytes) -> bool:
    """Say whether a datagram is the last of a dump."""
    return any(kind in (_NLMSG_DONE, _NLMSG_ERROR) for kind, _ in _messages(data))


def parse(data: bytes) -> Iterator[tuple[int, int, str, int]]:
    """Yield interface index, parent, kind and drops of each qdisc in a datagram."""
    for kind, body in _messages(data):
        if kind != _RTM_NEWQDISC:
            continue
        _, index, _, parent, _ = _TC.unpack_from(body)
        found = dict(_attributes(body[_TC.size :]))
        name = found.get(_TCA_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
        queue = dict(_attributes(found.get(_TCA_STATS2, b""))).get(_TCA_STATS_QUEUE, b"")
        drops = _QUEUE.unpack_from(queue)[2] if len(queue) >= _QUEUE.size else 0
        yield index, parent, name, drops


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
