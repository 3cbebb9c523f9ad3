"""Load: datagrams and connections, as fast as wanted or as possible.

Functions that take a `Child` run in a process of their own in a lab host.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from contextlib import ExitStack
from random import Random

from lab import Child, Host
from lab.process import LabError

CLOSED_PORT = 9
LOOPBACK = "127.0.0.1"
_BATCH = 64
_SYN = 2
_libc = ctypes.CDLL(None, use_errno=True)


class _Slice(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("slices", ctypes.POINTER(_Slice)),
        ("slice_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


class Datagrams:
    """Sends the same datagram many times with few system calls (sendmmsg).

    The socket is not connected, so no answer comes back to it as an error.
    """

    def __init__(self, port: int, address: str = LOOPBACK, size: int = 16) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        name = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
        self._name = ctypes.create_string_buffer(name + socket.inet_aton(address), 16)
        self._payload = ctypes.create_string_buffer(size)
        self._slice = _Slice(ctypes.addressof(self._payload), size)
        self._messages = (_Message * _BATCH)()
        for message in self._messages:
            message.name = ctypes.addressof(self._name)
            message.name_length = 16
            message.slices = ctypes.pointer(self._slice)
            message.slice_count = 1

    def send(self, count: int) -> int:
        """Send `count` datagrams; return how many the kernel took."""
        sent = 0
        while sent < count:
            part = _libc.sendmmsg(
                self._socket.fileno(), self._messages, min(_BATCH, count - sent), 0
            )
            if part <= 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            sent += part
        return sent

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def datagram_ns(count: int, port: int = CLOSED_PORT) -> float:
    """Send datagrams to a closed port; return the nanoseconds that one took."""
    sender = Datagrams(port)
    start = time.perf_counter_ns()
    sender.send(count)
    spent = time.perf_counter_ns() - start
    sender.close()
    return spent / count


def send_at_rate(rate: int, seconds: float, port: int = CLOSED_PORT) -> int:
    """Send `rate` datagrams a second, in a hundred parts each; return how many were sent."""
    sender = Datagrams(port)
    start, sent = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        due = int(rate * passed) - sent
        if due > 0:
            sent += sender.send(due)
        time.sleep(0.01)
    sender.close()
    return sent


def send_until_stopped(child: Child, port: int = CLOSED_PORT, size: int = 16) -> int:
    """Send as fast as possible; return how many datagrams."""
    sender, sent = Datagrams(port, size=size), 0
    child.ready()
    while not child.stopping():
        sent += sender.send(50 * _BATCH)
    return sent


def connect_until_stopped(child: Child, port: int = CLOSED_PORT) -> int:
    """Connect to a closed port again and again; return how many times."""
    attempts = 0
    child.ready()
    while not child.stopping():
        for _ in range(200):
            with socket.socket() as client:
                client.connect_ex((LOOPBACK, port))
            attempts += 1
    return attempts


def flood_syns_until_stopped(child: Child, port: int) -> int:
    """Send SYNs from made-up addresses to a listener; return how many were sent."""
    with _raw_socket() as raw:
        child.ready()
        sent = 0
        while not child.stopping():
            for _ in range(200):
                source = (0x7F010000 + sent % 60_000, 1024 + sent % 50_000)
                raw.sendto(_tcp_packet(source, port, sent, _SYN), (LOOPBACK, 0))
                sent += 1
        return sent


def send_mixed(count: int, full: int) -> None:
    """Send packets that are dropped, of some thousand flows in random order.

    Args:
        count: How many.
        full: Port of a UDP socket that takes no more; the others are closed.
    """
    random = Random(count)
    flows = [_random_flow(random, full) for _ in range(max(count // 30, 1))]
    weights = [1 / (1 + place) ** 0.7 for place in range(len(flows))]
    with _raw_socket() as raw:
        for protocol, source, port in random.choices(flows, weights, k=count):
            number = random.getrandbits(32)
            if protocol == socket.IPPROTO_UDP:
                packet = _udp_packet(source, port, number % 1200)
            else:
                packet = _tcp_packet(source, port, number, _SYN)
            raw.sendto(packet, (LOOPBACK, 0))


def _random_flow(random: Random, full: int) -> tuple[int, tuple[int, int], int]:
    source = (0x7F010000 + random.getrandbits(14), random.randrange(32768, 60999))
    if random.random() < 0.4:
        return socket.IPPROTO_TCP, source, random.choice((80, 443, 5432, 8080))
    return socket.IPPROTO_UDP, source, random.choice((53, 8125, 514, full))


def _raw_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _ip_packet(source: int, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet to this host; the kernel fills in its checksum (raw(7))."""
    size = 20 + len(payload)
    head = struct.pack("!BBHHHBBHI", 0x45, 0, size, 0, 0, 64, protocol, 0, source)
    return head + socket.inet_aton(LOOPBACK) + payload


def _udp_packet(source: tuple[int, int], port: int, size: int) -> bytes:
    # Without a checksum, which UDP allows.
    head = struct.pack("!HHHH", source[1], port, 8 + size, 0)
    return _ip_packet(source[0], socket.IPPROTO_UDP, head + bytes(size))


def _tcp_packet(source: tuple[int, int], port: int, number: int, flags: int) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", source[1], port, number, 0, 0x50, flags, 65535, 0, 0)
    pseudo = struct.pack("!I4sBBH", source[0], socket.inet_aton(LOOPBACK), 0, 6, len(tcp))
    total: int = sum(struct.unpack("!16H", pseudo + tcp))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return _ip_packet(source[0], 6, tcp[:16] + struct.pack("!H", checksum) + tcp[18:])


def never_accept(child: Child, backlog: int = 8) -> None:
    """Listen and never accept, with a full queue."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(backlog)
        for _ in range(backlog + 1):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        child.ready(listener.getsockname()[1])
        child.stopping(None)


def never_read(child: Child) -> None:
    """Bind a UDP socket with a small buffer and never read from it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.bind((LOOPBACK, 0))
        child.ready(reader.getsockname()[1])
        child.stopping(None)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def ping_pong_ns(rounds: int) -> float:
    """Send one byte to and fro over loopback TCP; return the nanoseconds of one round.

    One process does both sides, so that no wake-up of another one adds noise.
    """
    client, server = _tcp_pair()
    with client, server:
        start = time.perf_counter_ns()
        for _ in range(rounds):
            client.send(b"x")
            server.recv(1)
            server.send(b"x")
            client.recv(1)
        return (time.perf_counter_ns() - start) / rounds


def connection_ns(rounds: int) -> float:
    """Connect, ask, answer, close; return the nanoseconds of one connection."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        address = listener.getsockname()
        start = time.perf_counter_ns()
        for _ in range(rounds):
            with socket.create_connection(address) as client:
                server, _peer = listener.accept()
                with server:
                    client.send(b"x" * 100)
                    server.recv(200)
                    server.send(b"y" * 1000)
                    client.recv(2000)
        return (time.perf_counter_ns() - start) / rounds


def many_ports(host: Host) -> None:
    """Let local ports of many short connections be used again at once."""
    try:
        host.sysctl("net.ipv4.ip_local_port_range", "1024 65000")
        host.sysctl("net.ipv4.tcp_tw_reuse", 1)
        host.sysctl("net.ipv4.tcp_max_tw_buckets", 1000)
    except (OSError, LabError):
        return


def refused_once() -> None:
    """Connect to a closed port."""
    with socket.socket() as client:
        client.connect_ex((LOOPBACK, CLOSED_PORT))
