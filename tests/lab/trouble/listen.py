"""Refused connections: what a full accept queue or a full SYN queue does.

The remote clients are made by hand on a `Wire`, so nothing retransmits and the
number of refusals is exact. `crowd.slow_server` is the same trouble with
ordinary programs, as it happens in production.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lab.net import Host
from lab.packet import ACK, PSH, SYN, Endpoint, Segment
from lab.process import Child, LabError, Task
from lab.trouble.sockets import family_of
from lab.wire import Wire

_TCP_REPAIR = 19  # include/uapi/linux/tcp.h


@dataclass(frozen=True)
class Listener:
    """A process that listens and does not accept.

    Attributes:
        local: The address and port it is bound to.
        backlog: What it gave to listen(2). The kernel queues one connection more.
        pid: Its process.
        comm: That process's name.
    """

    local: Endpoint
    backlog: int
    pid: int
    comm: str
    task: Task[int]

    def close(self) -> int:
        """End it; return how many connections stood in its accept queue."""
        return self.task.stop()


@dataclass(frozen=True)
class Refused:
    """What was refused, and what the kernel must have counted for it.

    Attributes:
        listener: Who was full; its process has ended.
        clients: The clients that were refused, each once.
        listen_drops: What `TcpExt.ListenDrops` must have grown by.
        overflows: The same for `TcpExt.ListenOverflows`.
        queued: Connections that did get into the accept queue.
        answered: Clients that got a SYN-ACK.
    """

    listener: Listener
    clients: tuple[Endpoint, ...]
    listen_drops: int
    overflows: int
    queued: int
    answered: int


def _listen(child: Child, address: str, port: int, backlog: int) -> int:

    with socket.socket(family_of(address)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
        child.ready(listener.getsockname()[1])
        child.stopping(None)
        listener.setblocking(False)
        accepted: list[socket.socket] = []
        try:
            while True:
                accepted.append(listener.accept()[0])
        except BlockingIOError:
            return len(accepted)
        finally:
            for connection in accepted:
                # In repair mode close sends nothing, so that no remote client has
                # to answer and nothing of this trouble reaches the next one.
                connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
                connection.close()


def start_listener(
    host: Host, address: str, *, port: int = 0, backlog: int = 4, comm: str = "slow-server"
) -> Listener:
    """Start a process on `host` that listens on `address` and never accepts."""
    task = host.spawn_as(comm, _listen, address, port, backlog)
    bound = Endpoint(address, task.ready())
    return Listener(bound, backlog, task.pid, comm, task)


def _opening(client: Endpoint, local: Endpoint) -> Segment:
    return Segment(client, local, SYN, seq=random.getrandbits(32))


def send_syns(
    wire: Wire, local: Endpoint, clients: Iterable[Endpoint], *, quiet: float = 0.2
) -> dict[Endpoint, Segment]:
    """Send one SYN from each client; return the SYN-ACK of each that was answered."""
    answers: dict[Endpoint, Segment] = {}
    sent = 0
    for client in clients:
        wire.send(_opening(client, local))
        sent += 1
    for segment in wire.receive(quiet):
        if segment.flags & (SYN | ACK) == SYN | ACK and segment.source == local:
            answers[segment.destination] = segment
            if len(answers) == sent:
                break
    return answers


def final_ack(answer: Segment, *, payload: bytes = b"") -> Segment:
    """Return the segment by which a client completes the handshake, data included if given."""
    flags = ACK | PSH if payload else ACK
    return Segment(answer.destination, answer.source, flags, answer.ack, answer.seq + 1, payload)


def connect(wire: Wire, local: Endpoint, clients: Sequence[Endpoint]) -> int:
    """Complete a handshake for each client; return how many SYNs were answered."""
    answers = send_syns(wire, local, clients)
    for answer in answers.values():
        wire.send(final_ack(answer))
    return len(answers)


@contextlib.contextmanager
def _settings(server: Host, syncookies: int, abort_on_overflow: int = 0) -> Iterator[None]:
    wanted = {
        "net.ipv4.tcp_syncookies": syncookies,
        "net.ipv4.tcp_abort_on_overflow": abort_on_overflow,
    }
    before = {name: server.read_sysctl(name) for name in wanted}
    for name, value in wanted.items():
        server.sysctl(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            server.sysctl(name, old)


def refuse_syns(
    server: Host,
    wire: Wire,
    *,
    version: int = 4,
    count: int = 20,
    backlog: int = 4,
    syncookies: int = 1,
    comm: str = "slow-server",
) -> Refused:
    """Fill an accept queue, then send `count` SYNs that it refuses.

    Each refused SYN adds one to ListenDrops and one to ListenOverflows, whatever
    `syncookies` is (tcp_conn_request() in net/ipv4/tcp_input.c).
    """
    with _settings(server, syncookies):
        listener = start_listener(server, wire.local(version), backlog=backlog, comm=comm)
        for number in range(backlog + 1):  # One by one: together they could fill the SYN queue.
            connect(wire, listener.local, [wire.remote(number, version)])
        clients = [wire.remote(number, version) for number in range(1000, 1000 + count)]
        answers = send_syns(wire, listener.local, clients)
        queued = listener.close()
    refused = tuple(client for client in clients if client not in answers)
    return Refused(listener, refused, len(refused), len(refused), queued, len(answers))


def refuse_final_acks(
    server: Host,
    wire: Wire,
    *,
    version: int = 4,
    backlog: int = 12,
    syncookies: int = 1,
    abort_on_overflow: int = 0,
    comm: str = "slow-server",
) -> Refused:
    """Let handshakes begin while there is room and end when there is none.

    `backlog` connections stand in the accept queue, then as many SYNs are
    answered; one final ACK finds room, `backlog - 1` do not. Each refused client
    sends ACK, ACK, data. All three count, unless `abort_on_overflow` ends the
    request with a reset at the first (tcp_check_req() in tcp_minisocks.c). With
    `syncookies=2` there is no request to end, and all three count again
    (cookie_v4_check() in net/ipv4/syncookies.c).
    """
    with _settings(server, syncookies, abort_on_overflow):
        listener = start_listener(server, wire.local(version), backlog=backlog, comm=comm)
        connect(wire, listener.local, [wire.remote(number, version) for number in range(backlog)])
        clients = [wire.remote(number, version) for number in range(1000, 1000 + backlog)]
        answers = send_syns(wire, listener.local, clients)
        if len(answers) != backlog:
            raise LabError(f"only {len(answers)} of {backlog} SYNs were answered")
        wire.send(final_ack(answers.pop(clients[0])))
        for answer in answers.values():
            wire.send(final_ack(answer))
            wire.send(final_ack(answer))
            wire.send(final_ack(answer, payload=b"hello"))
        time.sleep(0.1)
        queued = listener.close()
    each = 1 if abort_on_overflow and syncookies != 2 else 3
    drops = each * len(answers)
    return Refused(listener, tuple(answers), drops, drops, queued, len(answers) + 1)


def flood_syns(
    server: Host,
    wire: Wire,
    *,
    version: int = 4,
    count: int = 200,
    backlog: int = 16,
    syncookies: int = 0,
    comm: str = "slow-server",
) -> Refused:
    """Send `count` SYNs and answer no SYN-ACK.

    Without syncookies the SYN queue fills and the rest is refused
    (ListenDrops and TCPReqQFullDrop); with them nobody is refused.
    """
    with _settings(server, syncookies):
        listener = start_listener(server, wire.local(version), backlog=backlog, comm=comm)
        clients = [wire.remote(number, version) for number in range(1000, 1000 + count)]
        answers = send_syns(wire, listener.local, clients)
        queued = listener.close()
    refused = tuple(client for client in clients if client not in answers)
    return Refused(listener, refused, len(refused), 0, queued, len(answers))
