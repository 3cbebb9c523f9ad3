"""What clients and servers say to each other: a question of some size, an answer of some size."""

from __future__ import annotations

import socket
import struct

from lab.trouble.sockets import family_of, receive_exactly

_HEADER = struct.Struct("!II")
PATIENCE_S = 8.0


def listening(version: int, *, reuse_port: bool = False, port: int = 0) -> socket.socket:
    """Return a listening socket; version 6 takes IPv4 as well, as most servers do."""
    listener = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if version == 6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::" if version == 6 else "0.0.0.0", port))
    listener.listen(64)
    return listener


def bound(server: str) -> socket.socket:
    """Return a TCP socket that has a port and will connect to `server`."""
    connection = socket.socket(family_of(server))
    connection.settimeout(PATIENCE_S)
    connection.bind(("", 0))
    return connection


def exchange(connection: socket.socket, ask: int, answer: int) -> bool:
    """Send `ask` bytes and read `answer` bytes; False when the server closed before."""
    connection.sendall(_HEADER.pack(ask, answer) + bytes(ask))
    return len(receive_exactly(connection, answer)) == answer


def answer_one(connection: socket.socket) -> bool:
    """Read one question and send its answer; False when the client has no more."""
    header = receive_exactly(connection, _HEADER.size)
    if len(header) < _HEADER.size:
        return False
    ask, answer = _HEADER.unpack(header)
    if len(receive_exactly(connection, ask)) < ask:
        return False
    connection.sendall(bytes(answer))
    return True


def serve(connection: socket.socket) -> None:
    """Answer until the client has no more questions, then close; errors end it early."""
    with connection:
        connection.settimeout(PATIENCE_S)
        try:
            while answer_one(connection):
                continue
        except OSError:
            return


def header_of(data: bytes) -> tuple[int, int] | None:
    """Return the sizes of question and answer at the start of `data`, None if it is too short."""
    return _HEADER.unpack_from(data) if len(data) >= _HEADER.size else None


HEADER_BYTES = _HEADER.size
