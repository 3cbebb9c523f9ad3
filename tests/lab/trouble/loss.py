"""Lost segments, and what TCP does about them."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from lab.net import Host
from lab.packet import SYN, Endpoint
from lab.process import Child
from lab.trouble.firewall import dropping, percent, the_first
from lab.trouble.sockets import endpoint, receive_exactly, tcp_client, tcp_server
from lab.wire import Wire

# Smaller than any MSS that IPv6 or an Ethernet-sized MTU gives: one write, one segment.
_MESSAGE = 1000


@dataclass(frozen=True)
class Loss:
    """A connection that lost segments.

    Attributes:
        client: The sending side's address and port.
        server: The receiving side's.
        client_pid: The sending process.
        server_pid: The receiving process.
        sent: Bytes sent.
        received: Bytes that arrived: all of them, TCP repairs.
        dropped: Packets that the firewall dropped.
    """

    client: Endpoint
    server: Endpoint
    client_pid: int
    server_pid: int
    sent: int
    received: int
    dropped: int


def _sink(child: Child, address: str) -> int:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        connection, _ = listener.accept()
        with connection:
            received = 0
            while part := connection.recv(65536):
                received += len(part)
            return received


def _send_bulk(child: Child, server: Endpoint, size: int) -> Endpoint:
    with tcp_client(server, timeout=60) as connection:
        block = bytes(65536)
        left = size
        while left:
            left -= connection.send(block[:left])
        source = endpoint(connection)
        # Stay until all is acknowledged, so that the end is orderly.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        return source


def lossy_transfer(
    server: Host,
    client: Host,
    address: str,
    *,
    size: int = 4_000_000,
    lost_percent: int = 3,
    firewall: Host | None = None,
    public: str | None = None,
    comm: str = "bulk-sender",
) -> Loss:
    """Send `size` bytes while a firewall drops some percent of the data packets.

    Args:
        server: Receives.
        client: Sends.
        address: Of the server.
        size: Bytes.
        lost_percent: Share of the packets dropped. With offload on the link a
            packet holds many segments.
        firewall: A router between both, where the rule goes into the forward hook;
            by default the server's own input.
        public: Where the client sends to, if it reaches the server by another address.
        comm: The sender's process name.
    """
    sink = server.spawn_as("sink", _sink, address)
    target: Endpoint = sink.ready()
    # Only packets with data: a lost SYN would cost a second, and a lost ACK is
    # never sent again, so that retransmissions could be fewer than losses.
    match = percent(f"tcp dport {target.port} meta length > 500", lost_percent)
    place, hook = (server, "input") if firewall is None else (firewall, "forward")
    with dropping(place, match, hook=hook) as rule:
        reached = Endpoint(public or address, target.port)
        sender = client.spawn_as(comm, _send_bulk, reached, size)
        source = sender.join()
        received = sink.join()
    return Loss(source, target, sender.pid, sink.pid, size, received, rule.dropped)


def _echo(child: Child, address: str) -> int:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        connection, _ = listener.accept()
        with connection:
            received = 0
            while message := receive_exactly(connection, _MESSAGE):
                received += len(message)
                connection.sendall(message[:1])
            return received


def _send_messages(child: Child, server: Endpoint, count: int) -> Endpoint:
    with tcp_client(server) as connection:
        # Some round trips first, so that the kernel knows the round-trip time.
        for _ in range(5):
            connection.sendall(bytes(_MESSAGE))
            receive_exactly(connection, 1)
        child.ready()
        child.receive()
        for _ in range(count):
            connection.sendall(bytes(_MESSAGE))
        receive_exactly(connection, count)
        return endpoint(connection)


def _lose_first(server: Host, client: Host, address: str, *, messages: int, lost: int) -> Loss:
    echo = server.spawn_as("echo", _echo, address)
    target: Endpoint = echo.ready()
    sender = client.spawn_as("sender", _send_messages, target, messages)
    sender.ready()
    with dropping(server, the_first(f"tcp dport {target.port} meta length > 500", lost)) as rule:
        sender.send("go")
        source = sender.join()
        received = echo.join()
    sent = (5 + messages) * _MESSAGE
    return Loss(source, target, sender.pid, echo.pid, sent, received, rule.dropped)


def tail_loss(server: Host, client: Host, address: str, *, lost: int = 1) -> Loss:
    """Lose the last segment of a message, `lost` times.

    Nothing follows that could report the gap. First a tail-loss probe sends it
    again (TCPLossProbes); if that is lost too, the retransmission timer
    (TCPTimeouts) does until one arrives.
    """
    return _lose_first(server, client, address, messages=1, lost=lost)


def lost_in_burst(server: Host, client: Host, address: str, *, messages: int = 8) -> Loss:
    """Lose the first of several segments: the others' acknowledgements report it.

    The kernel repairs it by a fast retransmit (TCPFastRetrans).
    """
    return _lose_first(server, client, address, messages=messages, lost=1)


@dataclass(frozen=True)
class Blackhole:
    """Connection attempts that nobody answers.

    Attributes:
        client: The connecting socket's address and port.
        target: Where it wanted to go.
        pid: The connecting process.
        syns: SYNs seen on the wire.
    """

    client: Endpoint
    target: Endpoint
    pid: int
    syns: int

    @property
    def retransmits(self) -> int:
        """How many were sent again: Tcp.RetransSegs must have grown by this."""
        return self.syns - 1


def _connect_in_vain(child: Child, target: Endpoint, seconds: float) -> Endpoint:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.setblocking(False)
        connection.connect_ex(target)
        source = endpoint(connection)
        child.ready(source)
        time.sleep(seconds)
        return source


def syn_blackhole(
    client: Host, wire: Wire, *, version: int = 4, seconds: float = 1.5, comm: str = "hopeful"
) -> Blackhole:
    """Connect to an address that never answers, for `seconds`.

    The kernel sends the SYN again after 1 s and then more slowly
    (TCPSynRetrans). Nothing is dropped anywhere.
    """
    target = wire.remote(7, version, port=8080)
    attempt = client.spawn_as(comm, _connect_in_vain, target, seconds)
    source: Endpoint = attempt.ready()
    attempt.join(seconds + 10)
    seen = [s for s in wire.receive() if s.flags == SYN and s.source == source]
    return Blackhole(source, target, attempt.pid, len(seen))
