"""Each trouble must make the kernel count exactly what the trouble says it did."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Child, Counters, Host, Lab, LabError, Wire, trouble

both_versions = pytest.mark.parametrize("version", [4, 6])


@dataclass
class Pair:
    client: Host
    server: Host
    addresses: dict[int, str]


@pytest.fixture
def pair(lab: Lab) -> Pair:
    client, server = lab.host("client"), lab.host("server")
    link = lab.link(client, server, offload=False)
    return Pair(client, server, {v: link.address(server, v) for v in (4, 6)})


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("server")


@pytest.fixture
def wire(server: Host) -> Iterator[Wire]:
    with Wire(server) as wire:
        yield wire


def part(counters: Counters, *names: str) -> dict[str, int]:
    return {name: counters.get(name, 0) for name in names}


LISTEN = ("TcpExt.ListenDrops", "TcpExt.ListenOverflows", "TcpExt.TCPReqQFullDrop")


@both_versions
@pytest.mark.parametrize("syncookies", [0, 1, 2])
def test_refused_syns(server: Host, wire: Wire, version: int, syncookies: int) -> None:
    with server.counting() as moved:
        refused = trouble.refuse_syns(server, wire, version=version, syncookies=syncookies)
    assert part(moved, *LISTEN) == dict(zip(LISTEN, (20, 20, 0), strict=True))
    assert refused.listen_drops == refused.overflows == len(refused.clients) == 20
    assert refused.queued == refused.listener.backlog + 1
    assert "Tcp.RetransSegs" not in moved


@both_versions
@pytest.mark.parametrize("abort", [0, 1])
@pytest.mark.parametrize("syncookies", [0, 1, 2])
def test_refused_final_acks(
    server: Host, wire: Wire, version: int, syncookies: int, abort: int
) -> None:
    with server.counting() as moved:
        refused = trouble.refuse_final_acks(
            server, wire, version=version, syncookies=syncookies, abort_on_overflow=abort
        )
    drops = refused.listen_drops
    assert drops == (11 if abort and syncookies != 2 else 33)
    assert part(moved, *LISTEN) == dict(zip(LISTEN, (drops, drops, 0), strict=True))
    assert refused.queued == refused.listener.backlog + 1


@both_versions
@pytest.mark.parametrize("syncookies", [0, 1, 2])
def test_syn_flood(server: Host, wire: Wire, version: int, syncookies: int) -> None:
    with server.counting() as moved:
        refused = trouble.flood_syns(server, wire, version=version, syncookies=syncookies)
    drops = refused.listen_drops
    assert part(moved, *LISTEN) == dict(zip(LISTEN, (drops, 0, drops), strict=True))
    assert (drops > 150) if syncookies == 0 else (drops == 0)
    assert refused.answered == 200 - drops


def test_settings_are_put_back(server: Host, wire: Wire) -> None:
    before = server.read_sysctl("net.ipv4.tcp_syncookies")
    trouble.flood_syns(server, wire, syncookies=2)
    assert server.read_sysctl("net.ipv4.tcp_syncookies") == before


@both_versions
def test_slow_server(pair: Pair, version: int) -> None:
    with pair.server.counting() as moved:
        crowd = trouble.slow_server(pair.server, pair.client, pair.addresses[version], seconds=2)
    assert moved["TcpExt.ListenDrops"] > 0
    assert crowd.accepted >= 5
    assert crowd.clients == 60


@both_versions
def test_closed_tcp_port(pair: Pair, version: int) -> None:
    with pair.server.counting() as at_server, pair.client.counting() as at_client:
        closed = trouble.closed_tcp_port(pair.server, pair.client, pair.addresses[version])
    assert closed.refused == closed.attempts == 10
    assert at_server["Tcp.OutRsts"] == 10
    assert at_client["Tcp.AttemptFails"] == 10


@both_versions
def test_closed_udp_port(pair: Pair, version: int) -> None:
    with pair.server.counting() as moved:
        closed = trouble.closed_udp_port(pair.server, pair.client, pair.addresses[version])
    assert moved["Udp.NoPorts" if version == 4 else "Udp6.NoPorts"] == closed.attempts == 10
    assert closed.refused > 0


@both_versions
def test_slow_udp_reader(pair: Pair, version: int) -> None:
    with pair.server.counting() as moved:
        reader = trouble.slow_udp_reader(pair.server, pair.client, pair.addresses[version])
    group = "Udp" if version == 4 else "Udp6"
    assert moved[f"{group}.RcvbufErrors"] == reader.dropped > 100
    assert reader.received > 0


@both_versions
def test_lossy_transfer(pair: Pair, version: int) -> None:
    with pair.client.counting() as moved:
        loss = trouble.lossy_transfer(
            pair.server, pair.client, pair.addresses[version], size=2_000_000
        )
    assert loss.received == loss.sent
    assert loss.dropped > 10
    assert moved["Tcp.RetransSegs"] >= loss.dropped


def test_lossy_transfer_through_a_router(lab: Lab) -> None:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    left = lab.link(client, router, v4="10.77.1.0/30", v6=None, offload=False)
    right = lab.link(router, server, v4="10.77.2.0/30", v6=None, offload=False)
    router.forward()
    client.route("default", via=left.address(router))
    server.route("default", via=right.address(router))
    loss = trouble.lossy_transfer(
        server, client, right.address(server), size=500_000, firewall=router
    )
    assert loss.received == loss.sent
    assert loss.dropped > 0


@both_versions
def test_tail_loss_is_probed(pair: Pair, version: int) -> None:
    with pair.client.counting() as moved:
        loss = trouble.tail_loss(pair.server, pair.client, pair.addresses[version])
    assert loss.dropped == 1
    names = ("Tcp.RetransSegs", "TcpExt.TCPLossProbes", "TcpExt.TCPTimeouts")
    assert part(moved, *names) == dict(zip(names, (1, 1, 0), strict=True))


def test_tail_loss_twice_times_out(pair: Pair) -> None:
    with pair.client.counting() as moved:
        loss = trouble.tail_loss(pair.server, pair.client, pair.addresses[4], lost=2)
    assert loss.dropped == 2
    names = ("Tcp.RetransSegs", "TcpExt.TCPLossProbes", "TcpExt.TCPTimeouts")
    assert part(moved, *names) == dict(zip(names, (2, 1, 1), strict=True))


def test_loss_in_a_burst_is_repaired_fast(pair: Pair) -> None:
    with pair.client.counting() as moved:
        loss = trouble.lost_in_burst(pair.server, pair.client, pair.addresses[4])
    assert loss.dropped == 1
    assert part(moved, "Tcp.RetransSegs", "TcpExt.TCPFastRetrans") == {
        "Tcp.RetransSegs": 1,
        "TcpExt.TCPFastRetrans": 1,
    }


@both_versions
def test_syn_into_a_blackhole(server: Host, wire: Wire, version: int) -> None:
    with server.counting() as moved:
        hole = trouble.syn_blackhole(server, wire, version=version)
    assert hole.retransmits >= 1
    assert moved["Tcp.RetransSegs"] == moved["TcpExt.TCPSynRetrans"] == hole.retransmits


@both_versions
@pytest.mark.parametrize(
    ("cause", "counter"),
    [("linger", "TcpExt.TCPAbortOnData"), ("unread", "TcpExt.TCPAbortOnClose")],
)
def test_reset(pair: Pair, version: int, cause: trouble.Cause, counter: str) -> None:
    with pair.server.counting() as at_server, pair.client.counting() as at_client:
        reset = trouble.reset_connection(
            pair.server, pair.client, pair.addresses[version], cause=cause
        )
    assert reset.noticed
    assert part(at_server, "Tcp.OutRsts", counter) == {"Tcp.OutRsts": 1, counter: 1}
    assert at_client["Tcp.EstabResets"] == 1


def test_host_runs_in_its_own_namespace(lab: Lab) -> None:
    host = lab.host("alone")
    inside = host.call(lambda: Path("/proc/self/ns/net").stat().st_ino)
    assert inside == host.inum != Path("/proc/self/ns/net").stat().st_ino
    assert host.run(["readlink", "/proc/self/ns/net"]).strip() == f"net:[{host.inum}]"
    host.sysctl("net.ipv4.tcp_syncookies", 2)
    assert host.read_sysctl("net.ipv4.tcp_syncookies") == "2"


def _name(child: Child) -> str:
    child.ready()
    child.stopping(None)
    return Path("/proc/self/comm").read_text().strip()


def test_child_has_its_name_and_returns(lab: Lab) -> None:
    task = lab.host("alone").spawn_as("auction-server", _name)
    task.ready()
    assert Path(f"/proc/{task.pid}/comm").read_text().strip() == "auction-server"
    assert task.stop() == "auction-server"


def test_errors_come_back(lab: Lab) -> None:
    host = lab.host("alone")
    with pytest.raises(ConnectionRefusedError):
        host.call(socket.create_connection, ("127.0.0.1", 9))
    with pytest.raises(LabError, match="ip link set nothing"):
        host.run(["ip", "link", "set", "nothing", "up"])
    task = host.spawn(lambda child: child.stopping(None))
    os.kill(task.pid, signal.SIGKILL)
    with pytest.raises(LabError, match="ended without"):
        task.join()


def test_named_namespace_goes_with_the_lab() -> None:
    with Lab() as lab:
        netns = lab.host("shown", named=True).netns
        assert Path("/run/netns", netns).exists()
    assert not Path("/run/netns", netns).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_killed_lab(number: int) -> None:
    """Not even SIGKILL leaves a process; the namespaces live only by their processes."""
    code = (
        "import time; from lab import Lab\n"
        "with Lab() as lab:\n"
        "    host = lab.host('left')\n"
        "    task = host.spawn(lambda child: child.stopping(None))\n"
        "    sleep = host.popen(['sh', '-c', 'echo up; exec sleep 60'])\n"
        "    sleep.stdout.readline()\n"
        "    print(host.keeper, task.pid, sleep.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": tests}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        process.send_signal(number)
        process.wait(10)
    assert len(pids) == 3
    end = time.monotonic() + 5
    while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path("/proc", pid).exists()]
