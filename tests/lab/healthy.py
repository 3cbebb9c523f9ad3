"""An ordinary busy host: nothing here is trouble, so nothing may be reported as such."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass

from lab.net import Host
from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.ending import short_connections
from lab.trouble.sockets import endpoint, family_of, tcp_client, tcp_server
from lab.trouble.windows import transfer


@dataclass(frozen=True)
class Load:
    """What was done, all of it with success.

    Attributes:
        connections: TCP connections.
        queries: UDP questions that were answered.
    """

    connections: int
    queries: int


def _answer_queries(child: Child, address: str) -> None:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        server.settimeout(0.2)
        child.ready(endpoint(server))
        while not child.stopping():
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    data, client = server.recvfrom(2000)
                    server.sendto(data, client)


def _ask_queries(_child: Child, target: Endpoint, count: int) -> int:
    answered = 0
    with socket.socket(family_of(target.address), socket.SOCK_DGRAM) as client:
        client.connect(target)
        client.settimeout(2)
        for _ in range(count):
            client.send(b"who is there?")
            answered += len(client.recv(2000)) > 0
    return answered


def _fork_server(child: Child, address: str, count: int) -> None:
    with tcp_server(address, backlog=512) as listener:
        child.ready(endpoint(listener))
        for _ in range(count):
            connection, _ = listener.accept()
            if os.fork() == 0:
                connection.sendall(connection.recv(100))
                os._exit(0)
            connection.close()
        for _ in range(count):
            os.wait()


def _threads_ask(_child: Child, target: Endpoint, count: int, threads: int) -> None:
    def ask() -> None:
        for _ in range(count // threads):
            with tcp_client(target) as connection:
                connection.sendall(b"hello")
                connection.recv(100)

    started = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _close_early(child: Child, address: str, count: int) -> None:
    with tcp_server(address, backlog=512) as listener:
        child.ready(endpoint(listener))
        for _ in range(count):
            connection, _ = listener.accept()
            connection.recv(1, socket.MSG_PEEK)
            connection.close()  # With unread data: a reset, as many servers send them.


def _write_and_go(_child: Child, target: Endpoint, count: int) -> None:
    for _ in range(count):
        with tcp_client(target) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"more than you asked for")
            connection.recv(1)


def busy(server: Host, client: Host, address: str, *, connections: int = 2000) -> Load:
    """Short connections, a bulk transfer, UDP questions, a forking server, early closes."""
    short_connections(server, client, address, count=connections)
    transfer(server, client, address, size=50_000_000)
    queries = server.spawn_as("resolver", _answer_queries, address)
    asker = client.spawn_as("asker", _ask_queries, queries.ready(), 3000)
    answered = asker.join()
    queries.stop()
    forked, unread = 200, 300
    forking = server.spawn_as("forking", _fork_server, address, forked)
    client.spawn_as("many", _threads_ask, forking.ready(), forked, 4).join()
    forking.join()
    early = server.spawn_as("early", _close_early, address, unread)
    client.spawn_as("talker", _write_and_go, early.ready(), unread).join()
    early.join()
    return Load(connections + 1 + forked + unread, answered)
