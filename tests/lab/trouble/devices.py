"""Trouble below TCP and UDP: damaged packets, wrong ways, full queues, silent neighbours."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from dataclasses import dataclass

from lab.net import Host, Link
from lab.packet import ACK, SYN, Endpoint, Segment, build
from lab.process import Child
from lab.trouble.sockets import endpoint, family_of
from lab.wire import Wire

_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h


@dataclass(frozen=True)
class Burst:
    """Packets that were sent to no avail.

    Attributes:
        sent: How many.
        pid: The process that sent them; 0 when the test itself did, on a wire.
    """

    sent: int
    pid: int = 0


def damaged_segments(wire: Wire, *, version: int = 4, count: int = 20) -> Burst:
    """Send SYNs with a wrong TCP checksum: dropped with TCP_CSUM (Tcp.InCsumErrors)."""
    for number in range(count):
        target = Endpoint(wire.local(version), 80)
        packet = bytearray(build(Segment(wire.remote(number, version), target, SYN)))
        packet[-1] ^= 0xFF  # The urgent pointer: part of the checksum, and nobody looks at it.
        wire.send_packet(bytes(packet))
    return Burst(count)


def reverse_path(server: Host, wire: Wire, *, count: int = 20) -> Burst:
    """Send SYNs from addresses that the server would answer by no device, with rp_filter on.

    Dropped with IP_RPFILTER (TcpExt.IPReversePathFilter).
    """
    server.sysctl("net.ipv4.conf.wire0.rp_filter", 1)
    for number in range(count):
        source = Endpoint(f"192.0.2.{number + 1}", 40000)
        wire.send(Segment(source, Endpoint(wire.local(), 80), SYN))
    return Burst(count)


def not_for_us(wire: Wire, *, count: int = 70) -> Burst:
    """Send segments for another host to one that does not forward: IP_INADDRERRORS."""
    for number in range(count):
        wire.send(Segment(wire.remote(number), Endpoint("203.0.113.9", 80), ACK))
    return Burst(count)


def too_large(router: Host, wire: Wire, link: Link, target: Host, *, count: int = 70) -> Burst:
    """Send IPv6 packets of 1440 bytes through a router to a link for 1280: PKT_TOO_BIG."""
    router.forward()
    router.run(["ip", "link", "set", link.device(router), "mtu", "1280"])
    goal = Endpoint(link.address(target, 6), 80)
    for number in range(count):
        wire.send(Segment(wire.remote(number, 6), goal, ACK, payload=bytes(1380)))
    return Burst(count)


def _send(_child: Child, target: Endpoint, count: int, size: int) -> None:
    with socket.socket(family_of(target.address), socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), target)
        time.sleep(0.3)  # Until the recorder has seen whose socket it is.


def send_datagrams(host: Host, target: Endpoint, count: int, size: int) -> Burst:
    """Send datagrams from a process of its own."""
    sender = host.spawn_as("chatter", _send, target, count, size)
    sender.join()
    return Burst(count, sender.pid)


def silent_neighbour(client: Host, link: Link, address: str, *, count: int = 20) -> Burst:
    """Send datagrams to an address of the link that nobody has: NEIGH_FAILED."""
    neighbour = f"net.ipv4.neigh.{link.device(client)}"
    client.sysctl(f"{neighbour}.mcast_solicit", 1)
    client.sysctl(f"{neighbour}.retrans_time_ms", 100)
    burst = send_datagrams(client, Endpoint(address, 9), count, 100)
    time.sleep(0.5)
    return burst


def short_queue(client: Host, link: Link, address: str, *, count: int = 500) -> Burst:
    """Send datagrams faster than a token bucket at the device lets them out: QDISC_DROP."""
    shape = ["root", "tbf", "rate", "1mbit", "burst", "4kb", "limit", "10kb"]
    client.run(["tc", "qdisc", "add", "dev", link.device(client), *shape])
    return send_datagrams(client, Endpoint(address, 9), count, 1000)


def unread_tun(server: Host, wire: Wire, *, count: int = 900) -> Burst:
    """Send datagrams to a tun device that nobody reads: FULL_RING (tx_dropped).

    It takes as many as its queue is long, 500.
    """
    return send_datagrams(server, Endpoint(wire.remote(1).address, 9), count, 100)


def _refuse_all(child: Child, address: str) -> None:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as reader:
        nothing = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))  # BPF_RET 0
        program = struct.pack("@HP", 1, ctypes.addressof(nothing))
        reader.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        reader.bind((address, 0))
        child.ready(endpoint(reader))
        child.stopping(None)


def socket_filter(server: Host, client: Host, address: str, *, count: int = 20) -> Burst:
    """Send datagrams to a socket whose own filter lets none through: SOCKET_FILTER."""
    reader = server.spawn_as("picky", _refuse_all, address)
    send_datagrams(client, reader.ready(), count, 100)
    reader.stop()
    return Burst(count, reader.pid)


def stray_acks(wire: Wire, local: Endpoint, *, count: int = 20) -> Burst:
    """Send ACKs that belong to no connection to a listener: TCP_FLAGS, and a reset each."""
    for number in range(count):
        wire.send(Segment(wire.remote(number), local, ACK, seq=1, ack=1))
    return Burst(count)
