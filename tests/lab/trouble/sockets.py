"""Small things every trouble needs from sockets."""

from __future__ import annotations

import socket

from lab.packet import Endpoint


def family_of(address: str) -> socket.AddressFamily:
    """Return the socket family of an address given as text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp_server(address: str, *, backlog: int = 128) -> socket.socket:
    """Return a socket that listens on a free port of `address`."""
    listener = socket.socket(family_of(address))
    listener.bind((address, 0))
    listener.listen(backlog)
    return listener


def tcp_client(server: Endpoint, *, timeout: float = 10) -> socket.socket:
    """Return a socket connected to `server` that sends each write at once."""
    connection = socket.create_connection(server, timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def endpoint(bound: socket.socket) -> Endpoint:
    """Return the local address and port of a socket."""
    address, port = bound.getsockname()[:2]
    return Endpoint(address, port)


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Read `size` bytes; fewer only when the other side closed."""
    parts = bytearray()
    while len(parts) < size and (part := connection.recv(min(65536, size - len(parts)))):
        parts += part
    return bytes(parts)
