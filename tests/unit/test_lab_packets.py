from __future__ import annotations

import pytest

from lab.counters import moved, parse_pairs, parse_snmp6
from lab.packet import ACK, SYN, Endpoint, Segment, build, parse


@pytest.mark.parametrize(
    ("source", "destination"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
)
def test_segment_survives_the_wire(source: str, destination: str) -> None:
    segment = Segment(Endpoint(source, 1), Endpoint(destination, 65535), SYN | ACK, 5, 6, b"odd")
    assert parse(build(segment)) == segment


def test_udp_is_no_segment() -> None:
    packet = bytearray(build(Segment(Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2), SYN)))
    packet[9] = 17
    assert parse(bytes(packet)) is None


def test_counters_of_both_forms() -> None:
    netstat = "Tcp: RetransSegs OutRsts\nTcp: 3 4\nUdp: NoPorts\nUdp: 5\n"
    assert parse_pairs(netstat) == {"Tcp.RetransSegs": 3, "Tcp.OutRsts": 4, "Udp.NoPorts": 5}
    assert parse_snmp6("Ip6InReceives  1\nUdp6NoPorts 2\n") == {
        "Ip6.InReceives": 1,
        "Udp6.NoPorts": 2,
    }


def test_moved_leaves_out_what_stood_still() -> None:
    assert moved({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 1}) == {"b": 3, "c": 1}
