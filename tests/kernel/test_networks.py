"""Networks of all kinds: which way a packet was going, by which device, and whose it was."""

from __future__ import annotations

import json
import socket
import struct
import time

import pytest

from kernel.recorded import NETFILTER, ask, probe
from lab import Host, Lab, Link, Wire
from lab.packet import ACK, Endpoint, Segment, build
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import dropping, refuse_syns

_SO_REUSEPORT = 15
_VLAN, _VLAN_OUTER = 0x8100, 0x88A8
_ETH_P_ALL = 3
_PACKET_STATISTICS = (263, 6)


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, Link]:
    server, client = lab.host("server"), lab.host("client")
    return server, client, lab.link(server, client, offload=False)


def _ethernet_address(host: Host, device: str) -> str:
    (found,) = json.loads(host.run(["ip", "-json", "link", "show", device]))
    return str(found["address"])


def _send(target: Endpoint, count: int = 1, device: str = "") -> None:
    """Send datagrams, whatever becomes of them."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        if device:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        for _ in range(count):
            try:
                sender.sendto(b"x", target)
            except PermissionError:  # said by the rule that drops it
                continue


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("hook", "path"), [("output", "output"), ("postrouting", "output"), ("input", "input")]
)
def test_the_way_of_what_is_sent_to_itself(
    lab: Lab, recorder: Recorder, hook: str, path: str, version: int
) -> None:
    """All have the same route, and the loopback for a device."""
    host = lab.host("host")
    with dropping(host, "udp dport 9", hook=hook):
        host.call(_send, Endpoint("127.0.0.1" if version == 4 else "::1", 9))
        rows = ask(
            recorder,
            f"SELECT path, ifname FROM drops WHERE netns = {host.inum} AND {NETFILTER}",
        )
    assert rows == [(path, "lo")]


@pytest.mark.parametrize("version", [4, 6])
def test_what_has_no_route_was_not_sent_by_this_host(
    recorder: Recorder, pair: tuple[Host, Host, Link], version: int
) -> None:
    router, client, link = pair
    router.forward()
    client.route("default", via=link.address(router, version))
    nowhere = Endpoint("203.0.113.9" if version == 4 else "2001:db8::9", 9)
    client.call(_send, nowhere, 3)
    rows = ask(
        recorder,
        f"""SELECT path, ifname, count(*) FROM drops
            WHERE netns = {router.inum} AND daddr = '{nowhere.address}' GROUP BY ALL""",
    )
    assert rows == [(None, link.device(router), 3)]


def test_a_multicast_that_comes_in(recorder: Recorder, pair: tuple[Host, Host, Link]) -> None:
    """Its route leads to a function of its own (ip6_mc_input)."""
    server, client, link = pair
    with dropping(server, "udp dport 9"):
        client.call(_send, Endpoint("ff02::1", 9), 2, link.device(client))
        rows = ask(
            recorder,
            f"""SELECT path, ifname, count(*) FROM drops
                WHERE netns = {server.inum} AND {NETFILTER} GROUP BY ALL""",
        )
    assert rows == [("input", link.device(server), 2)]


def test_a_bridge_sends_nothing_of_its_own(lab: Lab, recorder: Recorder) -> None:
    """With br_netfilter the packets that pass have a route, which says nothing."""
    bridge, server, client = (lab.host(name) for name in ("bridge", "server", "client"))
    inside = lab.link(server, bridge, v4="10.77.1.0/30", v6=None)
    outside = lab.link(client, bridge, v4=None, v6=None)
    inside_port, outside_port = inside.device(bridge), outside.device(bridge)
    bridge.run(["ip", "link", "add", "br0", "type", "bridge"])
    bridge.run(["ip", "address", "flush", "dev", inside_port])
    for device in (inside_port, outside_port):
        bridge.run(["ip", "link", "set", device, "master", "br0"])
    bridge.run(["ip", "link", "set", "br0", "up"])
    client.run(["ip", "address", "add", "10.77.1.2/30", "dev", outside.device(client)])
    mac = _ethernet_address(server, inside.device(server))
    neighbour = ["10.77.1.1", "lladdr", mac, "dev", outside.device(client)]
    client.run(["ip", "neigh", "add", *neighbour])
    bridge.nft(
        "table bridge t {\nchain c {\ntype filter hook forward priority 0\nudp dport 9 drop\n}\n}\n"
    )
    client.call(_send, Endpoint("10.77.1.1", 9), 3)
    rows = ask(
        recorder,
        f"""SELECT path, saddr, daddr, dport, owner_source, count(*) FROM drops
            WHERE netns = {bridge.inum} AND {NETFILTER} GROUP BY ALL""",
        totals=True,  # The firewall's module may be new, and so its symbols.
    )
    assert rows == [(None, "10.77.1.2", "10.77.1.1", 9, "none", 3)]


@pytest.mark.parametrize("version", [4, 6])
def test_the_device_of_what_tcp_has_received(lab: Lab, recorder: Recorder, version: int) -> None:
    """TCP puts something else in its place, and the route names the loopback."""
    server = lab.host("server")
    with Wire(server) as wire:
        refuse_syns(server, wire, version=version)
        rows = ask(recorder, f"SELECT DISTINCT ifname FROM listen WHERE netns = {server.inum}")
    assert rows == [("wire0",)]


@pytest.mark.parametrize("version", [4, 6])
def test_the_device_of_what_a_listener_does_not_want(
    lab: Lab, recorder: Recorder, version: int
) -> None:
    server = lab.host("server")
    with Wire(server) as wire:
        port = server.spawn_as("listening", _listen, wire.local(version)).ready()
        target = Endpoint(wire.local(version), port)
        wire.send(Segment(wire.remote(1, version), target, ACK, 1, 2))
        where = f"netns = {server.inum} AND {port} IN (sport, dport)"
        (dropped,) = ask(recorder, f"SELECT ifname, function FROM drops WHERE {where}")
        resets = ask(recorder, f"SELECT ifname FROM resets WHERE {where}")
    assert dropped[0] == "wire0"
    assert resets == [("wire0",)]


def _listen(child: Child, address: str) -> None:
    with socket.create_server((address, 0), family=_family(6 if ":" in address else 4)) as held:
        child.ready(held.getsockname()[1])
        child.stopping(None)


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _have_ports(child: Child, kind: socket.SocketKind) -> None:
    """Have sockets as `_TAKING` says, each case at a port of its own."""
    held, ports = [], []
    for addresses, only, _, _ in _TAKING:
        port = 0
        for address in addresses:
            held.append(socket.socket(_family(6 if ":" in address else 4), kind))
            if ":" in address:
                held[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            held[-1].bind((address, port))
            port = held[-1].getsockname()[1]
            if kind == socket.SOCK_STREAM:
                held[-1].listen()
        ports.append(port)
    child.ready(ports)
    child.stopping(None)


def _knock(target: Endpoint, kind: socket.SocketKind) -> None:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family, kind) as knocking:
        knocking.setblocking(False)
        knocking.connect_ex(target)
        if kind == socket.SOCK_DGRAM:
            knocking.send(b"anybody?")


_TAKING = (
    (("127.0.0.1",), False, 4, False),
    (("127.0.0.1", "10.77.1.1"), False, 4, True),
    (("0.0.0.0",), False, 4, True),
    (("0.0.0.0",), False, 6, False),
    (("::",), False, 4, True),
    (("::",), True, 4, False),
    (("::",), True, 6, True),
    (("::1",), False, 6, False),
    (("0.0.0.0", "::"), True, 6, True),
)
"""Addresses at a port, whether IPv6 only; the version of a packet to it, whether it is taken."""


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_has_an_owner_where_a_socket_takes_the_packet(
    recorder: Recorder, pair: tuple[Host, Host, Link], kind: socket.SocketKind
) -> None:
    server, client, link = pair
    task = server.spawn_as("perhaps", _have_ports, kind)
    ports = task.ready()
    with dropping(server, f"th dport {{ {', '.join(map(str, ports))} }}"):
        # At first no walk has seen the ports, later one has.
        for pause in (1.5, 0):
            for port, (_, _, version, _) in zip(ports, _TAKING, strict=True):
                client.call(_knock, Endpoint(link.address(server, version), port), kind)
            time.sleep(pause)
        rows = ask(
            recorder,
            f"""SELECT DISTINCT dport, owner_pid, owner_comm, owner_source FROM drops
                WHERE netns = {server.inum} AND {NETFILTER} ORDER BY dport""",
        )
    owner, nobody = (task.pid, "perhaps", "port"), (None, None, "none")
    wanted = [owner if case[-1] else nobody for case in _TAKING]
    assert rows == sorted((port, *who) for port, who in zip(ports, wanted, strict=True))


def test_a_port_of_two_is_nobodys(recorder: Recorder, pair: tuple[Host, Host, Link]) -> None:
    """Nor does it become that of the one that is left."""
    server, client, link = pair
    tasks = [server.spawn_as(f"group{number}", _in_group) for number in range(2)]
    assert [task.ready() for task in tasks] == [9, 9]
    sql = f"""SELECT owner_comm, owner_source, count(*) FROM drops
              WHERE netns = {server.inum} AND {NETFILTER} GROUP BY ALL"""
    with dropping(server, "udp dport 9"):
        client.call(_send, Endpoint(link.address(server), 9))
        assert ask(recorder, sql) == [(None, "none", 1)]  # for which a walk has seen both
        client.call(_send, Endpoint(link.address(server), 9), 5)
        tasks[0].stop()
        assert ask(recorder, sql) == [(None, "none", 6)]


def _in_group(child: Child) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)
        held.bind(("0.0.0.0", 9))
        child.ready(9)
        child.stopping(None)


def test_a_copy_for_a_capture_is_no_packet(
    recorder: Recorder, pair: tuple[Host, Host, Link]
) -> None:
    server, client, link = pair
    capture = server.spawn_as("capture", _capture, link.device(server))
    capture.ready()
    client.call(_send, Endpoint(link.address(server), 9), 100)
    copies, missed = capture.stop()
    assert 0 < missed < copies
    # What comes in is shared with those who want the packet itself, and not freed here.
    rows = ask(
        recorder,
        f"""SELECT benign, sum(weight) BETWEEN 1 AND {missed} FROM drops
            WHERE netns = {server.inum} AND function = 'packet_rcv' GROUP BY ALL""",
    )
    assert rows == [(True, True)]


def _capture(child: Child, device: str) -> tuple[int, int]:
    """Read nothing; return how many packets there were, and how many did not fit."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        held.bind((device, 0))
        child.ready()
        child.stopping(None)
        copies, missed = struct.unpack("II", held.getsockopt(*_PACKET_STATISTICS, 8))
    return copies, missed


def _send_frame(device: str, to: bytes, protocol: int, rest: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, protocol))
        sender.send(to + b"\x02\0\0\0\0\x09" + struct.pack("!H", protocol) + rest)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("outer", [_VLAN, _VLAN_OUTER])
def test_two_tags(
    recorder: Recorder, pair: tuple[Host, Host, Link], outer: int, version: int
) -> None:
    """The kernel takes the outer one away when it receives, and the other is before the packet."""
    server, client, link = pair
    source = Endpoint(link.address(client, version), 4000)
    target = Endpoint(link.address(server, version), 80)
    packet = build(Segment(source, target, ACK, 7, 8))
    inner = struct.pack("!H", 0x0800 if version == 4 else 0x86DD)
    tags = struct.pack("!HHH", 5, _VLAN, 0x4567) + inner
    address = _ethernet_address(server, link.device(server))
    hook = f'type filter hook ingress device "{link.device(server)}" priority 0'
    server.nft(f"table netdev t {{\nchain c {{\n{hook}\ndrop\n}}\n}}\n")
    to = bytes.fromhex(address.replace(":", ""))
    client.call(_send_frame, link.device(client), to, outer, tags + packet)
    rows = ask(
        recorder,
        f"""SELECT ip_version, protocol, saddr, sport, daddr, dport, tcp_flags, seq, ack
            FROM drops WHERE netns = {server.inum} AND {NETFILTER} AND protocol = 'TCP'""",
    )
    assert rows == [(version, "TCP", *source, *target, "ACK", 7, 8)]


@pytest.mark.module("8021q")
def test_a_tag_on_the_way_out(recorder: Recorder, pair: tuple[Host, Host, Link]) -> None:
    """A VLAN within a VLAN puts its tag into the packet: the queue below has it there."""
    _, client, link = pair
    device = link.device(client)
    for name, below, vlan in (("outer", device, "802.1ad"), ("inner", "outer", "802.1Q")):
        kind = f"type vlan protocol {vlan} id 5"
        client.run(f"ip link add link {below} name {name} {kind}".split())
        client.run(["ip", "link", "set", name, "up"])
    client.run(["ip", "address", "add", "10.5.0.2/24", "dev", "inner"])
    neighbour = ["10.5.0.1", "lladdr", "02:00:00:00:00:09", "dev", "inner"]
    client.run(["ip", "neigh", "add", *neighbour])
    client.run(f"tc qdisc add dev {device} root tbf rate 8kbit burst 2000 limit 2000".split())
    client.call(_send, Endpoint("10.5.0.1", 9), 100)
    rows = ask(
        recorder,
        f"""SELECT DISTINCT protocol, saddr, daddr, dport, ifname FROM drops
            WHERE netns = {client.inum} AND protocol = 'UDP'""",
    )
    assert rows == [("UDP", "10.5.0.2", "10.5.0.1", 9, device)]


def test_a_broadcast_that_nobody_waits_for(
    recorder: Recorder, pair: tuple[Host, Host, Link]
) -> None:
    server, client, link = pair
    if "no reasons" in probe(recorder, "drops/kfree_skb").note:
        pytest.skip("without reasons it looks like a packet for a closed port")
    client.call(_broadcast, Endpoint("10.77.1.3", 9), link.address(client))
    rows = ask(
        recorder,
        f"""SELECT reason, benign FROM drops
            WHERE netns = {server.inum} AND daddr = '10.77.1.3'""",
    )
    assert rows == [("NOT_SPECIFIED", True)]


def _broadcast(target: Endpoint, source: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.bind((source, 0))
        sender.sendto(b"anybody?", target)
