"""Datagrams: to a reader, to one that never reads, to sockets that come and go, to nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.sockets import family_of
from lab.workload.truth import Log

_SMALL_BUFFER = 4096


def _bound(port: int = 0) -> socket.socket:
    held = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    held.bind(("::", port))
    return held


def reader(child: Child, log: Log) -> None:
    """Read slowly, so that the buffer is full at times."""
    with _bound() as held:
        log.owns(held, "udp reader")
        child.ready(held.getsockname()[1])
        while True:
            held.recv(2048)
            time.sleep(0.01)


def never_reads(child: Child, log: Log) -> None:
    """Bind and never read."""
    with _bound() as held:
        log.owns(held, "udp never-reader")
        child.ready(held.getsockname()[1])
        child.stopping(None)


def comes_and_goes(child: Child, log: Log, life: float = 0.25, pause: float = 0.25) -> None:
    """Have a socket for a short time, again and again, on the same port."""
    with _bound() as held:
        port = held.getsockname()[1]
    child.ready(port)
    while not child.stopping(pause):
        with log.has(_bound(port), "udp, short-lived"):
            child.stopping(life)


def sender(
    child: Child, log: Log, targets: Sequence[Endpoint], seconds: float, rate: int = 100
) -> int:
    """Send `rate` datagrams a second to each target from one socket; return how many."""
    held = socket.socket(family_of(targets[0].address), socket.SOCK_DGRAM)
    with held:
        held.bind(("", 0))
        log.owns(held, "udp sender")
        child.ready()
        start, sent = time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            while sent < rate * passed:
                for target in targets:
                    try:
                        held.sendto(bytes(800), target)
                    except OSError:  # The firewall's refusal comes back as an error.
                        continue
                sent += 1
            time.sleep(0.02)
        return sent * len(targets)
