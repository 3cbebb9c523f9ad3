"""Others that do not answer, do not acknowledge, or refuse: played on a `Wire`."""

from __future__ import annotations

import errno
import select
import socket
import time
from dataclasses import dataclass

from lab.net import Host
from lab.packet import ACK, RST, SYN, Endpoint, Segment
from lab.process import Child
from lab.trouble.listen import connect
from lab.trouble.sockets import endpoint, tcp_server
from lab.wire import Wire


@dataclass(frozen=True)
class Silence:
    """What was tried in vain.

    Attributes:
        remote: The address and port of the other side; its port is 0 when there were several.
        count: How many connections.
        pid: The process that suffered.
    """

    remote: Endpoint
    count: int
    pid: int


def _try(child: Child, target: Endpoint, count: int, seconds: float) -> int:
    refused = 0
    connections = [socket.socket() for _ in range(count)]
    for connection in connections:
        connection.setblocking(False)
        connection.connect_ex(target)
    child.ready()
    time.sleep(seconds)
    for connection in connections:
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        refused += error == errno.ECONNREFUSED
        connection.close()
    return refused


def unanswered(client: Host, wire: Wire, *, count: int = 5, comm: str = "hopeful") -> Silence:
    """Connect `count` times to an address that never answers: each SYN is sent again after 1 s."""
    target = wire.remote(7, port=8080)
    trying = client.spawn_as(comm, _try, target, count, 1.3)
    trying.join()
    return Silence(target, count, trying.pid)


def refused(client: Host, wire: Wire, *, count: int = 30, comm: str = "turned-away") -> Silence:
    """Connect `count` times to a remote host that answers with a reset."""
    target = wire.remote(8, port=5432)
    trying = client.spawn_as(comm, _try, target, count, 0.5)
    trying.ready()
    for segment in wire.receive():
        if segment.flags & SYN and segment.destination == target:
            wire.send(Segment(target, segment.source, RST | ACK, 0, segment.seq + 1))
    return Silence(target, trying.join(), trying.pid)


def _push(child: Child, address: str, count: int) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        connections = [listener.accept()[0] for _ in range(count)]
        for connection in connections:
            connection.sendall(bytes(1000))
        child.stopping(None)
        for connection in connections:
            connection.close()


def unacknowledged(
    server: Host, wire: Wire, *, count: int = 30, seconds: float = 1.6, comm: str = "pusher"
) -> Silence:
    """Let a server send data to `count` clients that never acknowledge it.

    Nothing is dropped on the way to the wire, so it is lost elsewhere.
    """
    pusher = server.spawn_as(comm, _push, wire.local(), count)
    local: Endpoint = pusher.ready()
    for number in range(count):
        connect(wire, local, [wire.remote(number)])
    _read_for(wire, seconds)
    pusher.kill()
    return Silence(wire.remote(0, port=0), count, pusher.pid)


def _read_for(wire: Wire, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for _ in wire.receive(min(left, 0.2)):
            if time.monotonic() > end:
                break


def unfinished(server: Host, wire: Wire, *, count: int = 40, comm: str = "half-open") -> Silence:
    """Open `count` connections and never complete them: each SYN-ACK is sent again after 1 s."""
    listening = server.spawn_as(comm, _only_listen, wire.local())
    local: Endpoint = listening.ready()
    for number in range(count):
        wire.send(Segment(wire.remote(number), local, SYN, seq=1))
    _read_for(wire, 1.4)
    listening.stop()
    return Silence(wire.remote(0, port=0), count, listening.pid)


def _only_listen(child: Child, address: str) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        child.stopping(None)
        while select.select([listener], [], [], 0)[0]:
            listener.accept()[0].close()
