"""A server that accepts too slowly, under many ordinary clients."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from dataclasses import dataclass

from lab.net import Host
from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.sockets import family_of


@dataclass(frozen=True)
class Crowd:
    """How many ordinary clients fared at a server that accepts too slowly.

    Attributes:
        local: The server's address and port.
        backlog: What it gave to listen(2).
        pid: The server's process.
        comm: That process's name.
        clients: How many tried at the same moment.
        connected: How many saw their connection established in time. With a full
            queue this can be more than `accepted`.
        accepted: How many the server took from its queue.
        client_pid: The process of all clients.
    """

    local: Endpoint
    backlog: int
    pid: int
    comm: str
    clients: int
    connected: int
    accepted: int
    client_pid: int


def _accept_slowly(child: Child, address: str, backlog: int, pause: float) -> int:

    accepted: list[socket.socket] = []
    with socket.socket(family_of(address)) as listener:
        listener.bind((address, 0))
        listener.listen(backlog)
        listener.setblocking(False)
        child.ready(listener.getsockname()[1])
        while not child.stopping(pause):
            try:
                accepted.append(listener.accept()[0])
            except BlockingIOError:
                continue
    for connection in accepted:
        connection.close()
    return len(accepted)


def _connect_all(child: Child, server: Endpoint, clients: int, seconds: float) -> None:

    selector = selectors.DefaultSelector()
    connections = []
    for _ in range(clients):
        connection = socket.socket(family_of(server.address))
        connection.setblocking(False)
        connections.append(connection)
        if connection.connect_ex(server) not in (0, errno.EINPROGRESS):
            raise OSError(f"cannot connect to {server.address} port {server.port}")
        selector.register(connection, selectors.EVENT_WRITE, connection)
    connected = 0
    end = time.monotonic() + seconds
    while selector.get_map() and (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            selector.unregister(key.fileobj)
            connected += key.data.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    time.sleep(max(0, end - time.monotonic()))
    child.ready(connected)
    child.stopping(None)
    for connection in connections:
        connection.close()
    selector.close()


def slow_server(
    server: Host,
    client: Host,
    address: str,
    *,
    clients: int = 60,
    backlog: int = 4,
    accept_every: float = 0.2,
    seconds: float = 3.0,
    comm: str = "slow-server",
) -> Crowd:
    """Let many clients connect at once to a server that accepts one at a time.

    SYNs are refused and sent again by the clients' kernel after 1 s, so how many
    drops this makes depends on time: compare with the counters.
    """
    serving = server.spawn_as(comm, _accept_slowly, address, backlog, accept_every)
    local = Endpoint(address, serving.ready())
    crowd = client.spawn_as("crowd", _connect_all, local, clients, seconds)
    connected = crowd.ready(seconds + 10)
    # The server goes first: what clients send afterwards is answered by a reset
    # at once, and no retransmission reaches the next trouble.
    accepted = serving.stop()
    crowd.stop()
    return Crowd(local, backlog, serving.pid, comm, clients, connected, accepted, crowd.pid)
