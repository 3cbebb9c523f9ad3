"""Connections that end with a reset."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Literal

from lab.net import Host
from lab.packet import Endpoint
from lab.process import Child
from lab.trouble.sockets import endpoint, tcp_client, tcp_server

Cause = Literal["linger", "unread"]


@dataclass(frozen=True)
class Reset:
    """A connection that the server reset.

    Attributes:
        client: The address and port that received the reset.
        server: The address and port that sent it.
        client_pid: The process that was cut off.
        server_pid: The process that did it.
        noticed: Whether the client's read failed with "connection reset".
    """

    client: Endpoint
    server: Endpoint
    client_pid: int
    server_pid: int
    noticed: bool


def _reset_one(child: Child, address: str, cause: Cause) -> Endpoint:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        connection, peer = listener.accept()
        with connection:
            if cause == "linger":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.recv(100)
            else:
                connection.recv(1, socket.MSG_PEEK)  # It came, and stays unread.
        return Endpoint(*peer[:2])


def _be_reset(_child: Child, server: Endpoint) -> bool:
    with tcp_client(server) as connection:
        connection.sendall(b"hello")
        try:
            connection.recv(1)
        except ConnectionResetError:
            return True
    return False


def reset_connection(server: Host, client: Host, address: str, *, cause: Cause = "linger") -> Reset:
    """Let the server end a connection with a reset.

    Either by closing with SO_LINGER of zero seconds, which counts
    TcpExt.TCPAbortOnData, or by closing with unread data (TCPAbortOnClose). The
    server counts Tcp.OutRsts, the client Tcp.EstabResets.
    """
    serving = server.spawn_as("resetter", _reset_one, address, cause)
    target: Endpoint = serving.ready()
    cut_off = client.spawn_as("cut-off", _be_reset, target)
    noticed = cut_off.join()
    return Reset(serving.join(), target, cut_off.pid, serving.pid, noticed)
