"""TCP packets as bytes: made and read, IPv4 and IPv6, without options."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_IPPROTO_TCP = 6
_IPPROTO_ICMP = 1
_IPPROTO_ICMPV6 = 58
_HOP_LIMIT = 64


class Endpoint(NamedTuple):
    """An address as text, and a port."""

    address: str
    port: int


@dataclass(frozen=True)
class Segment:
    """One TCP segment.

    Attributes:
        source: Where it comes from.
        destination: Where it goes.
        flags: The TCP flag bits, `SYN | ACK` and so on.
        seq: Sequence number.
        ack: Acknowledgement number; meaningful with `ACK` only.
        payload: Data bytes.
    """

    source: Endpoint
    destination: Endpoint
    flags: int
    seq: int = 0
    ack: int = 0
    payload: bytes = b""


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of `data`."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(segment: Segment) -> bytes:
    """Return the IP packet that carries a segment, with right checksums."""
    source = ipaddress.ip_address(segment.source.address)
    destination = ipaddress.ip_address(segment.destination.address)
    header = struct.pack(
        "!HHIIBBHHH",
        segment.source.port,
        segment.destination.port,
        segment.seq & 0xFFFFFFFF,
        segment.ack & 0xFFFFFFFF,
        5 << 4,
        segment.flags,
        64240,
        0,
        0,
    )
    length = len(header) + len(segment.payload)
    pseudo = source.packed + destination.packed + struct.pack("!II", length, _IPPROTO_TCP)
    checksum = _checksum(pseudo + header + segment.payload)
    tcp = header[:16] + struct.pack("!H", checksum) + header[18:] + segment.payload
    if source.version == 6:
        ip = struct.pack("!IHBB", 6 << 28, length, _IPPROTO_TCP, _HOP_LIMIT)
        return ip + source.packed + destination.packed + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOP_LIMIT, _IPPROTO_TCP, 0)
    ip += source.packed + destination.packed
    return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + tcp


def icmp_error(router: str, about: Segment) -> bytes:
    """Return what a router says about a segment that it cannot deliver: no such host.

    In IPv6: forbidden by its administrator, because there no other ends a connection.
    """
    packet = build(about)
    target = ipaddress.ip_address(router).packed
    if packet[0] >> 4 == 6:
        sender = packet[8:24]
        body = struct.pack("!BBHI", 1, 1, 0, 0) + packet
        pseudo = target + sender + struct.pack("!II", len(body), _IPPROTO_ICMPV6)
        body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
        ip = struct.pack("!IHBB", 6 << 28, len(body), _IPPROTO_ICMPV6, _HOP_LIMIT)
        return ip + target + sender + body
    body = struct.pack("!BBHI", 3, 1, 0, 0) + packet[:28]
    body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, _HOP_LIMIT, _IPPROTO_ICMP, 0)
    ip += target + packet[12:16]
    return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + body


def fragment(
    source: str, destination: str, protocol: int, payload: bytes, *, offset: int = 0
) -> bytes:
    """Return an IPv6 packet with one fragment of a datagram: the first of several, or the last.

    Args:
        source: Where it comes from.
        destination: Where it goes.
        protocol: What the datagram is.
        payload: What of the datagram is in it.
        offset: Where in the datagram that begins, a multiple of 8 bytes.
    """
    header = struct.pack("!BBHI", protocol, 0, offset or 1, 7)
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    length = len(header) + len(payload)
    return struct.pack("!IHBB", 6 << 28, length, 44, _HOP_LIMIT) + ends + header + payload


def cut(packet: bytes, payload: int) -> bytes:
    """Return the first `payload` bytes of what an IP packet carries, in one that says so."""
    if packet[0] >> 4 == 6:
        return packet[:4] + struct.pack("!H", payload) + packet[6 : 40 + payload]
    ip = packet[:2] + struct.pack("!H", 20 + payload) + packet[4:10] + bytes(2) + packet[12:20]
    return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + packet[20 : 20 + payload]


def parse(packet: bytes) -> Segment | None:
    """Return the TCP segment in an IP packet; None when it carries something else."""
    version = packet[0] >> 4
    if version == 4:
        protocol, start = packet[9], (packet[0] & 15) * 4
        source, destination = packet[12:16], packet[16:20]
    else:
        protocol, start = packet[6], 40
        source, destination = packet[8:24], packet[24:40]
    if protocol != _IPPROTO_TCP:
        return None
    tcp = packet[start:]
    sport, dport, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", tcp)
    return Segment(
        Endpoint(str(ipaddress.ip_address(source)), sport),
        Endpoint(str(ipaddress.ip_address(destination)), dport),
        flags,
        seq,
        ack,
        tcp[(offset >> 4) * 4 :],
    )
