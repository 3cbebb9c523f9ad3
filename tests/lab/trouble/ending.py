"""Connections that end in every way there is."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from dataclasses import dataclass
from typing import Literal

from lab.net import Host
from lab.packet import ACK, FIN, PSH, RST, SYN, Endpoint, Segment
from lab.process import Child, LabError
from lab.trouble.firewall import dropping
from lab.trouble.sockets import endpoint, tcp_client, tcp_server
from lab.wire import Wire

Ending = Literal[
    "client", "server", "half_close", "linger", "unread", "late_data", "unplugged", "silent_peer"
]


@dataclass(frozen=True)
class Ended:
    """A connection and its two sides.

    Attributes:
        client: The connecting side's address and port.
        server: The accepting side's.
        sent: Bytes from the client to the server; a byte came back.
    """

    client: Endpoint
    server: Endpoint
    sent: int


_REQUEST = b"x" * 1234


def _swallow(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            continue


def _serve(child: Child, address: str, how: Ending) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        connection, _ = listener.accept()
    with connection:
        received = 0
        while received < len(_REQUEST):
            received += len(connection.recv(4096))
        connection.sendall(b"!")
        if how == "server":
            child.receive()
        elif how == "linger":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            child.receive()
        elif how == "unread":
            connection.recv(1, socket.MSG_PEEK)
        elif how == "late_data":
            connection.recv(1)  # The client's FIN.
            connection.sendall(b"too late")
            time.sleep(0.2)
        elif how == "silent_peer":
            child.receive()
        elif how == "half_close":
            _swallow(connection)
            connection.sendall(b"rest")
            connection.shutdown(socket.SHUT_WR)
        else:
            _swallow(connection)


def _connect(child: Child, server: Endpoint, how: Ending) -> Endpoint:
    with tcp_client(server) as connection:
        source = endpoint(connection)
        connection.sendall(_REQUEST)
        connection.recv(1)
        child.ready()
        if how == "unread":
            connection.sendall(b"more")
            _swallow(connection)
        elif how in ("server", "linger"):
            _swallow(connection)
        elif how == "half_close":
            connection.shutdown(socket.SHUT_WR)
            _swallow(connection)
        elif how in ("unplugged", "silent_peer"):
            child.receive()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
            if how == "unplugged":
                connection.sendall(b"anybody?")
            else:
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
                    connection.setsockopt(socket.IPPROTO_TCP, option, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
        return source


def end_connection(server: Host, client: Host, address: str, how: Ending) -> Ended:
    """Let a connection end.

    Args:
        server: Accepts.
        client: Connects.
        address: Of the server.
        how: `client` or `server`: that side closes first; `half_close`: the client shuts down its
            side, gets some more, and the server follows; `linger` or `unread`: the server resets;
            `late_data`: the client closes, the server sends on and is answered by a reset;
            `unplugged`: the client's data is never acknowledged; `silent_peer`: nor are its
            keepalives.
    """
    serving = server.spawn_as("ender", _serve, address, how)
    target: Endpoint = serving.ready()
    connecting = client.spawn_as("other-end", _connect, target, how)
    connecting.ready()
    time.sleep(0.05)
    if how in ("unplugged", "silent_peer"):
        with dropping(server, f"tcp dport {target.port}"):
            connecting.send("go")
            source = connecting.join()
            serving.kill()
    else:
        if how in ("server", "linger"):
            serving.send("go")
        source = connecting.join()
        serving.join()
    return Ended(source, target, len(_REQUEST) + (4 if how == "unread" else 0))


Last = Literal["data", "data_with_ack", "reset", "fin"]


def _connect_and_close(child: Child, target: Endpoint) -> None:
    with tcp_client(target):
        child.receive()


def after_close(client: Host, wire: Wire, last: Last, *, version: int = 4) -> Endpoint:
    """Let a client close its connection, and answer its FIN; return the client's address and port.

    Args:
        client: Connects, over `wire`, to a server that this process plays.
        wire: Of the client.
        last: What the server sends then: data though nobody will read it, with the client's FIN
            acknowledged or without; a reset; or its own FIN.
        version: IP version.
    """
    target = wire.remote(3, version, port=8080)
    closing = client.spawn_as("closes", _connect_and_close, target)
    syn = next((s for s in wire.receive(1) if s.flags & SYN and s.destination == target), None)
    if syn is None:
        raise LabError("the client sent no SYN")

    def answer(flags: int, seq: int, ack: int, payload: bytes = b"") -> None:
        wire.send(Segment(target, syn.source, flags, seq, syn.seq + ack, payload))

    answer(SYN | ACK, 1000, 1)
    next(wire.receive(1))
    closing.send("close")
    if not any(s.flags & FIN for s in wire.receive(0.2)):
        raise LabError("the client sent no FIN")
    acked = 1 if last in ("data", "reset") else 2
    if last.startswith("data"):
        answer(ACK | PSH, 1001, acked, b"too late")
    elif last == "fin":
        answer(ACK | FIN, 1001, acked)
    else:
        answer(ACK | RST, 1001, acked)
    closing.join()
    return syn.source


def no_port_left(client: Host, server: Host, address: str) -> int:
    """Connect twice with one local port to choose from; return how many got none."""
    client.sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    listening = server.spawn_as("listener", _only_listen, address)
    target: Endpoint = listening.ready()

    def twice() -> int:
        with tcp_client(target):
            try:
                tcp_client(target).close()
            except OSError as error:
                return int(error.errno == errno.EADDRNOTAVAIL)
        return 0

    failed = client.call(twice)
    listening.stop()
    return failed


def _only_listen(child: Child, address: str) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        child.stopping(None)


def never_accepted(server: Host, client: Host, address: str, *, clients: int = 5) -> int:
    """Connect to a server that never accepts and then goes; return how many connected."""
    listening = server.spawn_as("never-accepts", _only_listen, address)
    target: Endpoint = listening.ready()

    waiting = client.spawn_as("waiting", _hold, target, clients)
    waiting.ready()
    time.sleep(0.1)
    listening.stop()
    return waiting.join()


def _hold(child: Child, target: Endpoint, clients: int) -> int:
    connections = [tcp_client(target) for _ in range(clients)]
    child.ready()
    for connection in connections:
        with contextlib.suppress(ConnectionResetError):
            connection.recv(1)
        connection.close()
    return len(connections)


@dataclass(frozen=True)
class Short:
    """Many short connections.

    Attributes:
        count: How many.
        request: Bytes from the client in each.
        answer: Bytes from the server in each.
    """

    count: int
    request: int
    answer: int


def _answer(child: Child, address: str, short: Short) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        for _ in range(short.count):
            connection, _ = listener.accept()
            with connection:
                left = short.request
                while left:
                    left -= len(connection.recv(left))
                connection.sendall(bytes(short.answer))
                connection.recv(1)


def _ask(_child: Child, target: Endpoint, short: Short) -> None:
    for _ in range(short.count):
        with tcp_client(target) as connection:
            connection.sendall(bytes(short.request))
            left = short.answer
            while left:
                left -= len(connection.recv(left))


def short_connections(server: Host, client: Host, address: str, *, count: int = 2000) -> Short:
    """Ask and answer in `count` connections, one after the other; the client closes first."""
    short = Short(count, 100, 1000)
    answering = server.spawn_as("answers", _answer, address, short)
    asking = client.spawn_as("asks", _ask, answering.ready(), short)
    asking.join()
    answering.join()
    return short
