"""The books: after every trouble of the lab, the kernel's counters and the recording agree."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.verify import Finding, Verdict
from lab import Host, Lab
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import (
    busy_socket,
    closed_tcp_port,
    closed_udp_port,
    damaged_segments,
    flood_syns,
    full_conntrack,
    lossy_transfer,
    lost_in_burst,
    refuse_final_acks,
    refuse_syns,
    reset_connection,
    slow_server,
    slow_udp_reader,
    syn_blackhole,
    tail_loss,
)
from lab.wire import Wire

Trouble = Callable[[Lab, int], None]


def _pair(lab: Lab) -> tuple[Host, Host, Callable[[int], str]]:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client, offload=False)
    return server, client, lambda version: link.address(server, version)


def _on_a_wire(trouble: Callable[..., object], host: str = "server", **options: object) -> Trouble:
    def make(lab: Lab, version: int) -> None:
        named = lab.host(host)
        with Wire(named) as wire:
            trouble(named, wire, version=version, **options)

    return make


def _between(trouble: Callable[..., object], **options: object) -> Trouble:
    def make(lab: Lab, version: int) -> None:
        server, client, address = _pair(lab)
        trouble(server, client, address(version), **options)

    return make


def _damaged(lab: Lab, version: int) -> None:
    with Wire(lab.host("server")) as wire:
        damaged_segments(wire, version=version)


def _busy(lab: Lab, _: int) -> None:
    server = lab.host("server")
    with Wire(server) as wire:
        busy_socket(server, wire)


# Trouble, and the counters that it must have moved.
TROUBLES: dict[str, tuple[Trouble, tuple[str, ...]]] = {
    "refused SYNs": (
        _on_a_wire(refuse_syns),
        ("TcpExt.ListenDrops", "TcpExt.ListenOverflows"),
    ),
    "refused final ACKs": (
        _on_a_wire(refuse_final_acks),
        ("TcpExt.ListenDrops", "TcpExt.ListenOverflows"),
    ),
    "refused final ACKs, aborted": (
        _on_a_wire(refuse_final_acks, abort_on_overflow=1),
        ("TcpExt.ListenDrops", "TcpExt.ListenOverflows"),
    ),
    "refused final ACKs, always cookies": (
        _on_a_wire(refuse_final_acks, syncookies=2),
        ("TcpExt.ListenDrops", "TcpExt.ListenOverflows"),
    ),
    "flood": (_on_a_wire(flood_syns), ("TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop")),
    "slow server": (
        _between(slow_server),
        ("TcpExt.ListenDrops", "Tcp.RetransSegs", "TcpExt.TCPSynRetrans"),
    ),
    "black hole": (
        _on_a_wire(syn_blackhole, host="client"),
        ("Tcp.RetransSegs", "TcpExt.TCPSynRetrans", "TcpExt.TCPTimeouts"),
    ),
    "tail loss": (
        _between(tail_loss, lost=2),
        ("Tcp.RetransSegs", "TcpExt.TCPLossProbes", "TcpExt.TCPTimeouts"),
    ),
    "loss in a burst": (_between(lost_in_burst), ("Tcp.RetransSegs", "TcpExt.TCPFastRetrans")),
    "lossy transfer": (
        _between(lossy_transfer, lost_percent=10, size=3_000_000),
        ("Tcp.RetransSegs", "TcpExt.TCPFastRetrans"),
    ),
    "closed UDP port": (_between(closed_udp_port), ("Udp.NoPorts + Udp6.NoPorts",)),
    "slow UDP reader": (_between(slow_udp_reader), ("Udp.RcvbufErrors + Udp6.RcvbufErrors",)),
    "closed TCP port": (_between(closed_tcp_port), ()),
    "reset": (_between(reset_connection), ()),
    "damaged segments": (_damaged, ("Tcp.InCsumErrors",)),
    "busy socket": (_busy, ("TcpExt.TCPBacklogDrop",)),
}
MAY_BE_EXPLAINED = {"TcpExt.TCPLossProbes", "TcpExt.TCPTimeouts"}
"""These also count what no tracepoint shows."""


def _findings(folder: Path) -> tuple[list[Finding], list[Finding]]:
    """Return what was found, and of it what is unexplained."""
    with open_recording(folder) as recording:
        found = recording.verify()
    return found.findings, found.unexplained


def _balance(name: str, version: int, folder: Path) -> tuple[list[Finding], dict[str, int]]:
    """Make a trouble; return the findings, which must balance, and what the kernel counted."""
    trouble, _ = TROUBLES[name]
    with Lab() as lab, Recorder(folder / "rec") as recorder:
        trouble(lab, version)
        spaces = {host.inum: host.counters() for host in lab.hosts.values()}
        recorder.stop()
    findings, unexplained = _findings(recorder.folder)
    assert unexplained == []
    counted: dict[str, int] = {}
    for counters in spaces.values():
        for counter, value in counters.items():
            counted[counter] = counted.get(counter, 0) + value
    return [f for f in findings if f.netns is None or f.netns in spaces], counted


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", TROUBLES)
def test_the_books_balance(kernel: None, tmp_path: Path, name: str, version: int) -> None:
    findings, counted = _balance(name, version, tmp_path)
    for counter in TROUBLES[name][1]:
        mine = [f for f in findings if f.subject == counter]
        expected = sum(counted.get(part, 0) for part in counter.split(" + "))
        assert sum(f.counted or 0 for f in mine) == expected > 0, counter
        for finding in mine:
            if counter not in MAY_BE_EXPLAINED:
                assert finding.verdict is Verdict.OK, finding
            assert (finding.recorded or 0) <= (finding.counted or 0)


@pytest.mark.parametrize("version", [4, 6])
def test_a_full_connection_tracking_table(kernel: None, tmp_path: Path, version: int) -> None:
    with Lab() as lab, Recorder(tmp_path / "rec") as recorder:
        server, client, address = _pair(lab)
        with full_conntrack(server):
            closed_udp_port(server, client, address(version), count=30)
        recorder.stop()
    found, unexplained = _findings(recorder.folder)
    assert unexplained == []
    (drops,) = [f for f in found if f.subject == "conntrack.drop" and f.netns == server.inum]
    assert (drops.counted, drops.recorded, drops.verdict) == (30, 30, Verdict.OK)


def test_namespaces_from_before_the_start(lab: Lab, tmp_path: Path) -> None:
    """What was counted before the first reading is not held against the recording."""
    server = lab.host("server")
    with Wire(server) as wire:
        refuse_syns(server, wire, count=7)
        with Recorder(tmp_path / "rec") as recorder:
            refuse_syns(server, wire, count=11)
            recorder.stop()
    found, unexplained = _findings(recorder.folder)
    assert unexplained == []
    (drops,) = [f for f in found if f.subject == "TcpExt.ListenDrops" and f.netns == server.inum]
    assert (drops.counted, drops.recorded, drops.verdict) == (11, 11, Verdict.OK)


def test_namespaces_that_come_and_go(kernel: None, tmp_path: Path) -> None:
    """Their numbers are used again; what is not counted to the end is never held against them."""
    chance = random.Random(1)
    with Recorder(tmp_path / "rec") as recorder:
        for _ in range(15):
            with Lab() as lab:
                host = lab.host("server")
                for _ in range(chance.randint(1, 2)):
                    time.sleep(chance.random())
                    with Wire(host) as wire:
                        refuse_syns(host, wire, count=chance.randint(1, 40))
        recorder.stop()
    assert _findings(recorder.folder)[1] == []


def test_after_kill_9_the_books_balance(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        refuse_syns(server, wire)
        recorder.kill()
    assert _findings(recorder.folder)[1] == []


def test_a_row_that_is_taken_away_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """By the command, with its exit code."""
    server = lab.host("server")
    with Recorder(tmp_path / "rec") as recorder, Wire(server) as wire:
        refuse_syns(server, wire)
        recorder.stop()
    command = [str(PROGRAMS / "droptape"), "verify", str(recorder.folder)]
    assert _findings(recorder.folder)[1] == []
    shutil.rmtree(recorder.folder / "listen")
    done = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    bad = {
        (row["part"], row["subject"], row["counted"], row["recorded"])
        for row in json.loads(done.stdout)
        if row["verdict"] == "unexplained" and row["netns"] in (server.inum, None)
    }
    assert ("counters", "TcpExt.ListenDrops", 20, 0) in bad
    assert ("totals", "listen: accept_queue_full", 20, 0) in bad
    assert [what for part, what, _, _ in bad if part == "files"]
