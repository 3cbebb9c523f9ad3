"""Counters, listening sockets and settings of all namespaces, as the recording has them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from kernel.recorded import ask
from lab import Endpoint, Lab
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import connect, refuse_syns, send_syns, start_listener
from lab.wire import Wire


def test_counters_of_every_namespace_early_and_late(lab: Lab, tmp_path: Path) -> None:
    early = lab.host("early")
    with Wire(early) as wire:
        refuse_syns(early, wire, count=5)
    with Recorder(tmp_path / "rec") as recorder:
        late = lab.host("late")
        with Wire(early) as first, Wire(late) as second:
            refuse_syns(early, first, count=7)
            refuse_syns(late, second, count=9)
        recorder.stop()
    sql = f"""SELECT netns, min(value), max(value) FROM counters
              WHERE name = 'TcpExt.ListenDrops' AND netns IN ({early.inum}, {late.inum})
              GROUP BY netns"""
    assert set(ask(recorder, sql)) == {(early.inum, 5, 12), (late.inum, 0, 9)}


def test_counters_are_written_within_a_second_and_only_when_they_change(
    lab: Lab, tmp_path: Path
) -> None:
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        refuse_syns(server, wire, count=7)
        time.sleep(2.2)
        sql = f"""SELECT value FROM counters WHERE netns = {server.inum}
                  AND name = 'TcpExt.ListenDrops' ORDER BY mono_ns"""
        assert ask(recorder, sql) == [(0,), (7,)]
        time.sleep(2)
        recorder.stop()
    assert ask(recorder, sql) == [(0,), (7,)]


def _send_datagrams(target: Endpoint, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(1000), target)


def test_drops_of_a_qdisc(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    device = link.device(client)
    with Recorder(tmp_path / "rec") as recorder:
        client.run(f"tc qdisc add dev {device} root tbf rate 8kbit burst 1600 limit 3000".split())
        time.sleep(1.2)
        client.call(_send_datagrams, Endpoint(link.address(server), 9), 200)
        shown = client.run(f"tc -s qdisc show dev {device}".split())
        recorder.stop()
    dropped = int(shown.split("dropped ")[1].split(",")[0])
    sql = f"""SELECT max(value) - min(value) FROM counters
              WHERE netns = {client.inum} AND device = '{device}' AND name = 'qdisc.drops'"""
    assert ask(recorder, sql) == [(dropped,)]
    assert dropped > 50


def test_a_device_whose_name_is_no_text(lab: Lab, tmp_path: Path) -> None:
    host, other, device = lab.host("host"), lab.host("other"), os.fsdecode(b"d\xff")
    with Recorder(tmp_path / "rec") as recorder:
        for command in (
            f"ip link add {device} type veth peer name peer",
            f"ip addr add 192.0.2.1/24 dev {device}",
            "ip link set peer up",
            f"ip link set {device} up",
            f"ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev {device}",
            f"tc qdisc add dev {device} root tbf rate 8kbit burst 1600 limit 3000",
        ):
            host.run(command.split())
        time.sleep(1.2)
        host.call(_send_datagrams, Endpoint("192.0.2.2", 9), 200)
        with Wire(other) as wire:
            refuse_syns(other, wire, count=5)
        time.sleep(1.2)
        recorder.stop()
    assert Manifest.read(tmp_path / "rec").notes == []
    sql = f"""SELECT max(value) > 50 FROM counters WHERE netns = {host.inum}
              AND device = 'd\\xff' AND name = 'qdisc.drops'"""
    assert ask(recorder, sql) == [(True,)]
    sql = f"""SELECT max(value) FROM counters WHERE netns = {other.inum}
              AND name = 'TcpExt.ListenDrops'"""
    assert ask(recorder, sql) == [(5,)]


@pytest.mark.parametrize("version", [4, 6])
def test_how_full_an_accept_queue_was(lab: Lab, tmp_path: Path, version: int) -> None:
    """The queue fills and empties between two samples: only the peak tells."""
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        listener = start_listener(server, wire.local(version), backlog=8, comm="depth")
        time.sleep(1.1)
        for number in range(5):
            connect(wire, listener.local, [wire.remote(number, version)])
        time.sleep(1.2)
        listener.close()
        time.sleep(1.2)
        recorder.stop()
    sql = f"""SELECT laddr, owner_pid, owner_comm, owner_source, backlog,
                     max(accept_queue), max(accept_queue_peak), bool_or(NOT open), any_value(inode)
              FROM listeners
              WHERE netns = {server.inum} AND lport = {listener.local.port} GROUP BY ALL"""
    ((*found, inode),) = ask(recorder, sql)
    assert found == [
        *(listener.local.address, listener.pid, "depth", "listen", 8),
        *(5, 5, True),
    ]
    assert inode > 0


def test_whose_queue_it_was_of_two_that_share_a_port(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        idle = start_listener(server, "127.0.0.1", backlog=8)
        busy = start_listener(server, wire.local(), port=idle.local.port, backlog=8)
        for number in range(5):
            connect(wire, busy.local, [wire.remote(number)])
        time.sleep(1.2)
        recorder.stop()
        for listener in idle, busy:
            listener.close()
    sql = f"""SELECT laddr, owner_pid, max(accept_queue_peak) FROM listeners
              WHERE netns = {server.inum} GROUP BY ALL ORDER BY laddr"""
    expected = [(idle.local.address, idle.pid, 0), (busy.local.address, busy.pid, 5)]
    assert ask(recorder, sql) == sorted(expected)


def test_a_queue_that_overflowed_between_two_samples(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        listener = start_listener(server, wire.local(), backlog=3)
        for number in range(4):
            connect(wire, listener.local, [wire.remote(number)])
        send_syns(wire, listener.local, [wire.remote(n) for n in range(100, 107)])
        time.sleep(1.2)
        recorder.stop()
        listener.close()
    sql = f"""SELECT max(accept_queue_peak), max(backlog), max(sk_drops), min(syn_queue)
              FROM listeners WHERE netns = {server.inum} AND lport = {listener.local.port}"""
    assert ask(recorder, sql) == [(4, 3, 7, 0)]


def test_a_setting_that_changes(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    name = "net.ipv4.tcp_syncookies"
    server.sysctl(name, 0)
    with Recorder(tmp_path / "rec") as recorder:
        time.sleep(2)
        server.sysctl(name, 2)
        time.sleep(6.5)
        recorder.stop()
    sql = f"""SELECT value FROM sysctls WHERE netns = {server.inum} AND name = '{name}'
              ORDER BY ts"""
    assert ask(recorder, sql) == [("0",), ("2",)]
    own = "SELECT count(*) > 40 FROM sysctls JOIN netns ON inum = sysctls.netns WHERE name = 'host'"
    assert ask(recorder, own.replace("name =", "netns.name =")) == [(True,)]


def test_a_mount_with_any_name_ends_no_sampling(tmp_path: Path) -> None:
    strange = os.fsdecode(b"a\x0bb\x0cc \xffd")
    (tmp_path / strange).mkdir()
    script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
    record = [str(PROGRAMS / "droptape-record"), "-o", str(tmp_path / "rec"), "--", "sleep", "2.5"]
    subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", tmp_path / strange, *record], check=True
    )
    assert Manifest.read(tmp_path / "rec").notes == []
    with open_recording(tmp_path / "rec") as recording:
        for table in ("counters", "sysctls"):
            ((count,),) = recording.sql(f"SELECT count(*) FROM {table}").fetchall()
            assert count > 0, table
