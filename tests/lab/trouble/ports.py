"""Ports where nobody listens, and a UDP reader that is too slow."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from lab.net import Host
from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.sockets import endpoint, family_of


@dataclass(frozen=True)
class ClosedPort:
    """Attempts to reach a port where nobody listens.

    Attributes:
        target: The closed port.
        attempts: How many connects or datagrams arrived there, each dropped once.
        refused: How many times the client was told so.
    """

    target: Endpoint
    attempts: int
    refused: int


def _free_port(address: str, kind: socket.SocketKind) -> int:
    with socket.socket(family_of(address), kind) as probe:
        probe.bind((address, 0))
        return endpoint(probe).port


def _connect_refused(target: Endpoint, count: int) -> int:
    refused = 0
    for _ in range(count):
        try:
            socket.create_connection(target, timeout=5).close()
        except ConnectionRefusedError:
            refused += 1
    return refused


def closed_tcp_port(server: Host, client: Host, address: str, *, count: int = 10) -> ClosedPort:
    """Connect `count` times to a closed TCP port of `address`.

    The server drops each SYN with NO_SOCKET and answers with a reset (Tcp.OutRsts);
    the client counts Tcp.AttemptFails.
    """
    target = Endpoint(address, server.call(_free_port, address, socket.SOCK_STREAM))
    return ClosedPort(target, count, client.call(_connect_refused, target, count))


def _send_unwanted(target: Endpoint, count: int) -> int:
    refused = 0
    with socket.socket(family_of(target.address), socket.SOCK_DGRAM) as sender:
        sender.connect(target)
        sender.settimeout(0.2)
        for _ in range(count):
            sent = False
            while not sent:
                try:
                    sender.send(b"anybody there?")
                    sent = True
                except ConnectionRefusedError:  # Reports an earlier datagram; this one stayed.
                    refused += 1
        try:
            sender.recv(1)
        except ConnectionRefusedError:
            refused += 1
        except TimeoutError:  # ICMP answers are rate limited: not each datagram gets one.
            pass
    return refused


def closed_udp_port(server: Host, client: Host, address: str, *, count: int = 10) -> ClosedPort:
    """Send `count` datagrams to a closed UDP port of `address`.

    The server drops each with NO_SOCKET and counts Udp.NoPorts (Udp6 for IPv6).
    """
    target = Endpoint(address, server.call(_free_port, address, socket.SOCK_DGRAM))
    return ClosedPort(target, count, client.call(_send_unwanted, target, count))


def _answer_late(child: Child, address: str, port: int, count: int) -> None:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as server:
        server.bind((address, port))
        child.ready(endpoint(server))
        asked = [server.recvfrom(100) for _ in range(count)]
        child.stopping(None)
        for data, client in asked:
            server.sendto(data, client)


def _ask_and_go(target: Endpoint, count: int) -> None:
    for _ in range(count):
        with socket.socket(family_of(target.address), socket.SOCK_DGRAM) as client:
            client.sendto(b"who is there?", target)


def late_answers(
    server: Host, client: Host, address: str, *, count: int = 30, port: int = 5300
) -> None:
    """Ask `count` times by UDP, each time from a socket that is gone when the answer comes.

    The client drops each answer with NO_SOCKET.
    """
    child = server.spawn_as("resolver", _answer_late, address, port, count)
    client.call(_ask_and_go, child.ready(), count)
    child.stop()


@dataclass(frozen=True)
class SlowReader:
    """Datagrams sent to a reader that reads only afterwards.

    Attributes:
        target: Where the reader is bound.
        source: Where they came from.
        pid: The reader's process.
        comm: That process's name.
        sender_pid: The sender's process.
        sent: Datagrams sent.
        received: Datagrams that fitted into the receive buffer.
    """

    target: Endpoint
    source: Endpoint
    pid: int
    comm: str
    sender_pid: int
    sent: int
    received: int

    @property
    def dropped(self) -> int:
        """How many were dropped: Udp.RcvbufErrors (Udp6 for IPv6) must have grown by this."""
        return self.sent - self.received


def _read_late(child: Child, address: str, receive_buffer: int) -> int:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        reader.bind((address, 0))
        child.ready(endpoint(reader))
        child.stopping(None)
        reader.setblocking(False)
        received = 0
        try:
            while True:
                reader.recv(65536)
                received += 1
        except BlockingIOError:
            return received


def _send_datagrams(
    _child: Child, target: Endpoint, count: int, size: int, pause: float
) -> Endpoint:
    with socket.socket(family_of(target.address), socket.SOCK_DGRAM) as sender:
        sender.connect(target)
        for _ in range(count):
            sender.send(bytes(size))
            if pause:
                time.sleep(pause)
        return endpoint(sender)


def slow_udp_reader(
    server: Host,
    client: Host,
    address: str,
    *,
    count: int = 200,
    size: int = 1000,
    receive_buffer: int = 16384,
    pause: float = 0,
    comm: str = "slow-reader",
) -> SlowReader:
    """Send `count` datagrams of `size` bytes to a reader that sleeps meanwhile.

    The kernel drops what does not fit into `receive_buffer` (of which it takes the
    double, socket(7)) with SOCKET_RCVBUFF.
    """
    reader = server.spawn_as(comm, _read_late, address, receive_buffer)
    target = reader.ready()
    sender = client.spawn_as("udp-sender", _send_datagrams, target, count, size, pause)
    source = sender.join()
    received = reader.stop()
    return SlowReader(target, source, reader.pid, comm, sender.pid, count, received)
