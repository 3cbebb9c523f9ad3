"""Packet drops: as many as the kernel counted, with reason, function, flow and socket."""

from __future__ import annotations

import socket
import struct

import pytest

from kernel.recorded import NETFILTER, ask, one, reason
from lab import Host, Lab, Link, Wire
from lab.packet import ACK, Endpoint, Segment, build, cut, fragment
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import (
    busy_socket,
    closed_tcp_port,
    closed_udp_port,
    dropping,
    lossy_transfer,
    slow_udp_reader,
    small_receive_buffer,
)


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, Link]:
    server, client = lab.host("server"), lab.host("client")
    return server, client, lab.link(server, client, offload=False)


@pytest.mark.parametrize("version", [4, 6])
def test_closed_tcp_port(recorder: Recorder, pair: tuple[Host, Host, Link], version: int) -> None:
    server, client, link = pair
    closed = closed_tcp_port(server, client, link.address(server, version))
    rows = ask(
        recorder,
        f"""SELECT reason, function, protocol, ip_version, saddr, daddr, dport, tcp_flags,
                   owner_pid, owner_source, ifname, benign, count(*)
            FROM drops WHERE netns = {server.inum} AND dport = {closed.target.port} GROUP BY ALL""",
    )
    function = "tcp_v4_rcv" if version == 4 else "tcp_v6_rcv"
    assert rows == [
        (
            reason(recorder, "NO_SOCKET"), function, "TCP", version, link.address(client, version),
            closed.target.address, closed.target.port, "SYN", None, "none",
            link.device(server), False, closed.attempts,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("version", [4, 6])
def test_closed_udp_port(recorder: Recorder, pair: tuple[Host, Host, Link], version: int) -> None:
    server, client, link = pair
    closed = closed_udp_port(server, client, link.address(server, version))
    rows = ask(
        recorder,
        f"""SELECT reason, protocol, owner_pid, benign, count(*) FROM drops
            WHERE netns = {server.inum} AND dport = {closed.target.port} GROUP BY ALL""",
    )
    assert rows == [(reason(recorder, "NO_SOCKET"), "UDP", None, False, closed.attempts)]


@pytest.mark.parametrize("version", [4, 6])
def test_udp_receive_buffer_overflow(
    recorder: Recorder, pair: tuple[Host, Host, Link], version: int
) -> None:
    server, client, link = pair
    counter = "Udp.RcvbufErrors" if version == 4 else "Udp6.RcvbufErrors"
    with server.counting() as counted:
        slow = slow_udp_reader(server, client, link.address(server, version), pause=0.01)
    rows = ask(
        recorder,
        f"""SELECT reason, protocol, dport, saddr, sport, sum(weight) FROM drops
            WHERE netns = {server.inum} AND protocol = 'UDP' GROUP BY ALL""",
    )
    expected = reason(recorder, "SOCKET_RCVBUFF")
    assert rows == [(expected, "UDP", slow.target.port, *slow.source, counted[counter])]
    assert slow.dropped == counted[counter] > 0
    owners = ask(
        recorder,
        f"""SELECT DISTINCT owner_pid, owner_comm FROM drops
            WHERE netns = {server.inum} AND protocol = 'UDP'""",
    )
    assert owners == [(slow.pid, slow.comm)]


@pytest.mark.parametrize("version", [4, 6])
def test_firewall_drops_and_fast_retransmits(
    recorder: Recorder, pair: tuple[Host, Host, Link], version: int
) -> None:
    server, client, link = pair
    with client.counting() as counted:
        loss = lossy_transfer(server, client, link.address(server, version))
    assert loss.dropped > 0
    rows = ask(
        recorder,
        f"""SELECT reason, function, saddr, sport, daddr, dport, count(*) FROM drops
            WHERE netns = {server.inum} AND {NETFILTER} GROUP BY ALL""",
        totals=True,  # The firewall's module may be new, and so its symbols.
    )
    # Since Linux 6.8 (e0d4593140b0) nf_tables frees the packet itself.
    expected = reason(recorder, "NETFILTER_DROP")
    assert [(row[0], *row[2:]) for row in rows] == [
        (expected, *loss.client, *loss.server, loss.dropped)
    ]
    assert rows[0][1] in ("nft_do_chain", "nf_hook_slow")
    rows = ask(
        recorder,
        f"""SELECT sum(segments), list(DISTINCT owner_pid)
            FROM retransmits WHERE netns = {client.inum}""",
    )
    assert rows == [(counted["Tcp.RetransSegs"], [loss.client_pid])]


def test_a_router_drops_for_others(recorder: Recorder, lab: Lab) -> None:
    server, router, client = (lab.host(name) for name in ("server", "router", "client"))
    inside = lab.link(server, router, offload=False)
    outside = lab.link(router, client, v4="10.77.2.0/30", v6="fd77:2::/64", offload=False)
    router.forward()
    server.route("default", via=inside.address(router))
    client.route("default", via=outside.address(router))
    loss = lossy_transfer(server, client, inside.address(server), firewall=router)
    rows = ask(
        recorder,
        f"""SELECT reason, owner_pid, owner_source, daddr, count(*) FROM drops
            WHERE netns = {router.inum} AND {NETFILTER} GROUP BY ALL""",
    )
    expected = reason(recorder, "NETFILTER_DROP")
    assert rows == [(expected, None, "none", inside.address(server), loss.dropped)]
    assert loss.dropped > 0


def test_totals_agree_with_the_rows(recorder: Recorder, pair: tuple[Host, Host, Link]) -> None:
    server, client, link = pair
    closed_udp_port(server, client, link.address(server), count=25)
    rows = ask(
        recorder,
        f"""WITH r AS (SELECT reason, benign, sum(weight) AS n FROM drops
                       WHERE netns = {server.inum} GROUP BY ALL),
                 t AS (SELECT cause, benign, sum(events) AS n, sum(recorded) AS m FROM totals
                       WHERE kind = 'drops' AND netns = {server.inum} GROUP BY ALL)
            SELECT r.reason, t.cause, r.n, t.n, t.m
            FROM r FULL JOIN t
            ON coalesce(reason, '') = coalesce(cause, '') AND r.benign = t.benign""",
        totals=True,
    )
    assert rows
    assert all(row[2] == row[3] == row[4] for row in rows)


def test_a_socket_that_another_process_holds_locked(recorder: Recorder, lab: Lab) -> None:
    """What arrives is dropped beneath the sender, who is not the owner."""
    server = lab.host("server")
    with Wire(server) as wire:
        crammed = busy_socket(server, wire)
    rows = ask(
        recorder,
        f"""SELECT DISTINCT owner_comm, owner_pid, path = 'output'
            FROM drops WHERE netns = {server.inum} AND dport = {crammed.local.port}""",
    )
    assert rows == [(crammed.comm, crammed.pid, None)]  # its route was given back before
    strangers = f"""SELECT count(*) FROM drops
        WHERE netns = {server.inum} AND context_pid IS DISTINCT FROM owner_pid"""
    assert one(recorder, strangers) > 0


def test_what_is_pruned_from_the_queue_has_no_device(recorder: Recorder, lab: Lab) -> None:
    """There, another packet is where the device was."""
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        crammed = small_receive_buffer(server, wire, count=1000, mixed=True)
    rows = ask(
        recorder,
        f"""SELECT ifname, function, count(*) FROM drops
            WHERE netns = {server.inum} AND dport = {crammed.local.port} GROUP BY ALL""",
    )
    assert {row[0] for row in rows} == {None}
    assert sum(row[-1] for row in rows) >= counted["TcpExt.OfoPruned"] > 0


def _have_udp_port(child: Child, address: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as held:
        held.bind((address, 0))
        child.ready(held.getsockname()[1])
        child.stopping(None)


def test_only_the_first_fragment_has_ports(recorder: Recorder, lab: Lab) -> None:
    """What looks like ports in the others is data, and nobody's."""
    server = lab.host("server")
    with Wire(server) as wire, dropping(server, "exthdr frag exists"):
        task = server.spawn_as("innocent", _have_udp_port, wire.local(6))
        local, remote = Endpoint(wire.local(6), task.ready()), wire.remote(5, 6)
        segment = build(Segment(remote, local, ACK, payload=bytes(8)))[40:]
        datagram = struct.pack("!HHHH", remote.port, local.port, 16, 0) + bytes(8)
        for protocol, content in ((socket.IPPROTO_TCP, segment), (socket.IPPROTO_UDP, datagram)):
            for offset in (0, 1232):
                ends = remote.address, local.address
                wire.send_packet(fragment(*ends, protocol, content, offset=offset))
        rows = ask(
            recorder,
            f"""SELECT protocol, sport, dport, tcp_flags, owner_comm, owner_source FROM drops
                WHERE netns = {server.inum} AND {NETFILTER} ORDER BY mono_ns""",
        )
        task.stop()
    assert rows == [
        ("TCP", *(remote.port, local.port), "ACK", None, "none"),
        ("TCP", *(0, 0), None, None, "none"),
        ("UDP", *(remote.port, local.port), None, "innocent", "port"),
        ("UDP", *(0, 0), None, None, "none"),
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_cut_short_has_no_ports(recorder: Recorder, lab: Lab, version: int) -> None:
    """What an earlier packet left in the same memory is not this one's."""
    server = lab.host("server")
    with Wire(server) as wire:
        whole = Segment(wire.remote(1, version), Endpoint(wire.local(version), 9), ACK, 1, 2)
        short = wire.remote(2, version)
        for _ in range(20):
            wire.send(whole)
        for payload in (0, 4, 19):
            segment = Segment(short, whole.destination, ACK, 1, 2)
            wire.send_packet(cut(build(segment), payload))
        rows = ask(
            recorder,
            f"""SELECT protocol, daddr, sport, dport, tcp_flags, seq, ack FROM drops
                WHERE netns = {server.inum} AND saddr = '{short.address}'""",
        )
    assert rows == 3 * [("TCP", wire.local(version), 0, 0, None, 0, 0)]


def _send_datagrams(address: str, port: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x", (address, port))


def test_dropped_where_it_arrives(recorder: Recorder, pair: tuple[Host, Host, Link]) -> None:
    """It still names the socket that sent it, but the drop is another host's."""
    server, client, link = pair
    hook = f'type filter hook ingress device "{link.device(server)}" priority 0'
    server.nft(f"table netdev t {{\nchain c {{\n{hook}\nudp dport 9 drop\n}}\n}}\n")
    client.call(_send_datagrams, link.address(server), 9, 5)
    rows = ask(
        recorder,
        f"""SELECT netns, ifname, count(*) FROM drops
            WHERE netns IN ({server.inum}, {client.inum}) AND protocol = 'UDP' GROUP BY ALL""",
    )
    assert rows == [(server.inum, link.device(server), 5)]
