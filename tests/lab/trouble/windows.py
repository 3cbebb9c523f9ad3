"""Windows: a reader that does not read, and hosts without window scaling."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lab.net import Host
from lab.packet import Endpoint
from lab.process import Child
from lab.tcpinfo import TcpInfo, tcp_info
from lab.trouble.sockets import endpoint, family_of, receive_exactly, tcp_client


@dataclass(frozen=True)
class Transfer:
    """A connection that carried data from the client to the server.

    Attributes:
        client: The sending side's address and port.
        server: The receiving side's.
        client_pid: The sending process.
        server_pid: The receiving process.
        sent: Bytes sent.
        received: Bytes that arrived.
        seconds: From the connection to its end, as the client saw it.
        paused: Seconds in which the reader did not read though the sender waited.
        info: The client's TCP_INFO, taken when all was acknowledged, before the FIN.
    """

    client: Endpoint
    server: Endpoint
    client_pid: int
    server_pid: int
    sent: int
    received: int
    seconds: float
    paused: float
    info: TcpInfo


@dataclass(frozen=True)
class _Pause:
    times: int
    seconds: float


def _read(child: Child, address: str, size: int, buffer: int, pause: _Pause) -> tuple[int, float]:
    with socket.socket(family_of(address)) as listener:
        if buffer:
            # A connection takes it from its listener: it has to be set before the handshake.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind((address, 0))
        listener.listen()
        child.ready(endpoint(listener))
        connection, _ = listener.accept()
    received, paused = 0, 0.0
    with connection:
        for _ in range(pause.times):
            start = time.monotonic()
            time.sleep(pause.seconds)
            paused += time.monotonic() - start
            received += len(receive_exactly(connection, min(size // 20, size - received)))
        received += len(receive_exactly(connection, size - received))
        connection.sendall(b"!")
        connection.recv(1)
    return received, paused


def _send(_child: Child, server: Endpoint, size: int) -> tuple[Endpoint, TcpInfo, float]:
    start = time.monotonic()
    with tcp_client(server, timeout=60) as connection:
        connection.sendall(bytes(size))
        receive_exactly(connection, 1)
        time.sleep(0.1)
        info, source = tcp_info(connection), endpoint(connection)
    return source, info, time.monotonic() - start


def _transfer(
    server: Host, client: Host, address: str, size: int, buffer: int, pause: _Pause
) -> Transfer:
    reader = server.spawn_as("reader", _read, address, size, buffer, pause)
    target: Endpoint = reader.ready()
    sender = client.spawn_as("writer", _send, target, size)
    source, info, seconds = sender.join()
    received, paused = reader.join()
    return Transfer(
        source, target, sender.pid, reader.pid, size, received, seconds, paused, info
    )  # fmt: skip


def transfer(server: Host, client: Host, address: str, *, size: int = 4_000_000) -> Transfer:
    """Send `size` bytes to a reader that reads all the time."""
    return _transfer(server, client, address, size, 0, _Pause(0, 0))


def slow_tcp_reader(
    server: Host,
    client: Host,
    address: str,
    *,
    size: int = 400_000,
    buffer: int = 16384,
    pauses: int = 2,
    pause_s: float = 1.0,
) -> Transfer:
    """Send `size` bytes to a reader with a small buffer that stops reading `pauses` times.

    Its window closes each time (TCPToZeroWindowAdv on the server), and the client probes it
    (TCPWinProbe).
    """
    return _transfer(server, client, address, size, buffer, _Pause(pauses, pause_s))


@contextlib.contextmanager
def without_window_scaling(host: Host) -> Iterator[None]:
    """Switch window scaling off at one host meanwhile: no window beyond 65,535 bytes."""
    host.sysctl("net.ipv4.tcp_window_scaling", 0)
    try:
        yield
    finally:
        host.sysctl("net.ipv4.tcp_window_scaling", 1)
