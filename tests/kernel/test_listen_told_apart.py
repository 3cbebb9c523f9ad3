"""Refusals that could be taken for others: which client, which listener, and whether at all."""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf import client, syscall
from droptape.bpf.kinds import all_kinds
from droptape.bpf.ring import Ring
from droptape.recorder.sampling.listeners import ListenerReader
from kernel.recorded import ask
from lab import Endpoint, Lab
from lab.packet import SYN, Segment, icmp_error
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import refuse_syns, start_listener
from lab.trouble.listen import connect, send_syns
from lab.wire import Wire


@pytest.mark.parametrize("version", [4, 6])
def test_half_open_connections_that_icmp_errors_end(
    lab: Lab, recorder: Recorder, version: int
) -> None:
    server = lab.host("server")
    with Wire(server) as wire:
        listener = start_listener(server, wire.local(version), backlog=64)
        clients = [wire.remote(n, version=version, port=40_000 + n) for n in range(10)]
        answers = send_syns(wire, listener.local, clients)
        with server.counting() as counted:
            for answer in answers.values():
                wire.send_packet(icmp_error(wire.remote(200, version=version).address, answer))
            # One that is taken: it must not be told to be refused in place of the others.
            assert send_syns(wire, listener.local, [wire.remote(99, version=version, port=5)])
        listener.close()
    assert counted["TcpExt.ListenDrops"] == len(clients) == len(answers)
    rows = ask(
        recorder,
        f"""SELECT event, saddr, sport, daddr, dport, owner_pid, weight FROM listen
            WHERE netns = {server.inum} ORDER BY sport""",
    )
    assert rows == [("icmp_error", *one, *listener.local, listener.pid, 1) for one in clients]


def _share_a_port(child: Child, address: str) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, 8080))
        listener.listen(0)
        child.ready()
        child.stopping(None)


def test_sampled_refusals_have_the_right_listener(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with (
        Wire(server) as wire,
        Recorder(tmp_path / "rec", "--max-rate", "10") as recorder,
    ):
        server.sysctl("net.ipv4.tcp_syncookies", 0)
        server.run(["ip", "address", "add", "10.99.0.1/32", "dev", "lo"])
        local, other = Endpoint(wire.local(), 8080), Endpoint("10.99.0.1", 8080)
        every = server.spawn(_share_a_port, "0.0.0.0")
        special = server.spawn(_share_a_port, local.address)
        every.ready()
        special.ready()
        for target in local, other:
            connect(wire, target, [wire.remote(0)])  # that is all the queue holds
        for n in range(4000):
            to = local if n % 20 else other
            wire.send(Segment(wire.remote(1 + n % 500, port=20_000 + n), to, SYN))
        time.sleep(0.3)
        rows = ask(
            recorder,
            f"SELECT DISTINCT daddr, owner_pid FROM listen WHERE netns = {server.inum} ORDER BY 1",
        )
        assert recorder.stop() == 0
        every.stop()
        special.stop()
    assert rows == [(local.address, special.pid), (other.address, every.pid)]


def _fill(fd: int) -> None:
    """Put into a map with a number in the first four bytes of its key what it has room for."""
    shape = syscall.map_shape(fd)
    key, nothing = np.zeros(shape.key_bytes // 4, "u4"), np.zeros(shape.value_bytes, "u1")
    for number in itertools.count(1):
        key[0] = number
        try:
            syscall.map_update(fd, key, nothing)
        except OSError:
            break


def test_more_listeners_than_can_be_watched_are_told(lab: Lab) -> None:
    loaded = client.load(["listen"])
    try:
        reader = ListenerReader(loaded)
        start_listener(lab.host("one"), "127.0.0.1", backlog=4).close()
        reader.read()
        assert reader.crowded == ""
        _fill(loaded.fds["map:listeners"])
        start_listener(lab.host("other"), "127.0.0.1", backlog=4).close()
        reader.read()
        assert "16,384 listening sockets are watched at most" in reader.crowded
    finally:
        loaded.close()


def test_more_namespaces_than_can_be_remembered(lab: Lab) -> None:
    """Then the listener's own count tells how many it refused."""
    kind = all_kinds()["listen"]
    loaded = client.load(["listen"])
    try:
        _fill(loaded.fds["map:refusals"])
        server = lab.host("server")
        with Wire(server) as wire, server.counting() as counted:
            refused = refuse_syns(server, wire)
        rows = Ring(loaded.fds["ring:listen"], kind.ring_bytes, kind.table.dtype).read()
        rows = rows[rows["netns"] == server.inum]
        (column,) = (one for one in kind.table.columns if one.name == "event")
        assert column.enum is not None
        assert {column.enum.values[event] for event in rows["event"]} == {"accept_queue_full"}
        assert rows["weight"].sum() == refused.listen_drops == counted["TcpExt.ListenDrops"] > 0
    finally:
        loaded.close()
