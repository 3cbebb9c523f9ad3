"""Sockets that change hands, and a peer that can be made deaf: what is sent to it is sent again."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Literal

from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.sockets import endpoint, tcp_client, tcp_server
from lab.workload.process import fork

Waiting = Literal["recv", "poll", "epoll", "sleep"]

_FOR_EVER_S = 30.0


def be_peer(child: Child, address: str) -> None:
    """Accept connections on `address` and keep them open, unread."""
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        kept = []
        listener.settimeout(0.05)
        while not child.stopping():
            try:
                kept.append(listener.accept()[0])
            except TimeoutError:
                continue


def _wait_for(held: socket.socket, how: Waiting) -> None:
    if how == "recv":
        held.recv(1)
    elif how == "poll":
        poll = select.poll()
        poll.register(held, select.POLLIN)
        poll.poll(_FOR_EVER_S * 1000)
    elif how == "epoll":
        with select.epoll() as epoll:
            epoll.register(held, select.EPOLLIN)
            epoll.poll(_FOR_EVER_S)
    else:
        time.sleep(_FOR_EVER_S)


def let_child_use(child: Child, peer: Endpoint, how: Waiting) -> None:
    """Connect, and let a forked child send and wait for the answer; keep a copy open.

    Reports the child's process id. At any message the child sends; at the next it ends and this
    process closes its copy.
    """
    with tcp_client(peer, timeout=_FOR_EVER_S) as connection:
        connection.settimeout(None)
        go, tell = os.pipe()

        def use() -> None:
            os.read(go, 1)
            connection.send(bytes(100))
            _wait_for(connection, how)

        pid = fork("user", use)
        child.ready(pid)
        child.receive()
        os.write(tell, b"x")
        child.receive()
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def send_and_wait(child: Child, peer: Endpoint) -> None:
    """Connect, and send when told to; then wait for the answer."""
    with tcp_client(peer, timeout=_FOR_EVER_S) as connection:
        child.ready()
        child.receive()
        connection.send(bytes(100))
        child.stopping(None)


def send_and_exit(child: Child, peer: Endpoint) -> None:
    """Connect, and when told to send and end at once."""
    connection = tcp_client(peer)
    child.ready(endpoint(connection))
    child.receive()
    connection.send(bytes(100))


def hand_on_once_connected(child: Child, peer: Endpoint) -> None:
    """Connect, and at once leave the connection to a child."""
    connection = tcp_client(peer)
    pid = fork("heir", time.sleep, 1)
    connection.close()
    os.waitpid(pid, 0)


def listen_and_accept_when_told(child: Child, address: str, port: int = 0) -> list[Endpoint]:
    """Listen on a port that others may share; accept only when told to; return the clients."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, port))
        listener.listen(64)
        child.ready(listener.getsockname()[1])
        child.receive()
        listener.settimeout(0.2)
        clients: list[Endpoint] = []
        while True:
            try:
                connection, client = listener.accept()
            except TimeoutError:
                return clients
            connection.close()
            clients.append(Endpoint(*client[:2]))


def send_on_many(server: Endpoint, count: int) -> None:
    """Connect `count` times and send a large segment on each."""
    held = [tcp_client(server) for _ in range(count)]
    for connection in held:
        connection.send(bytes(1000))
    time.sleep(0.1)


def serve_by_child(child: Child, address: str, use: Callable[[socket.socket], None]) -> None:
    """Listen; a child accepts and does `use`, and this process never touches a connection.

    Reports the child's process id and the port.
    """
    with tcp_server(address) as listener:

        def accept() -> None:
            while True:
                use(listener.accept()[0])

        pid = fork("acceptor", accept)
        child.ready((pid, endpoint(listener)))
        child.stopping(None)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def until_reset(connection: socket.socket) -> None:
    """Read until the peer resets, then close at once."""
    with connection:
        try:
            connection.send(b"hello")
            while connection.recv(100):
                continue
        except ConnectionResetError:
            return


def reset_many(server: Endpoint, count: int) -> None:
    """Connect, read, and reset the connection, `count` times."""
    for _ in range(count):
        with tcp_client(server) as connection:
            connection.recv(5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_much(connection: socket.socket) -> None:
    """Send until the peer goes."""
    with connection:
        try:
            while True:
                connection.send(bytes(10_000))
                time.sleep(0.001)
        except OSError:
            return


def leave_early(child: Child, server: Endpoint, count: int) -> None:
    """Close connections while more comes in."""
    for _ in range(count):
        with tcp_client(server) as connection:
            connection.recv(1)
            time.sleep(0.01)


def overflow_short_lived(child: Child, address: str, count: int) -> None:
    """Open a UDP socket, let its buffer overflow, and close it at once; `count` times."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            with socket.socket(family, socket.SOCK_DGRAM) as reader:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                reader.bind((address, 0))
                for _ in range(10):
                    sender.sendto(bytes(1000), reader.getsockname())
            time.sleep(0.02)
