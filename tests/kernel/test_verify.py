"""The books: after every trouble of the lab, the kernel's counters and the recording agree."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.verify import Finding, Verdict
from lab import Host, Lab
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import (
    closed_tcp_port,
    closed_udp_port,
    flood_syns,
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
}
MAY_BE_EXPLAINED = {"TcpExt.TCPLossProbes", "TcpExt.TCPTimeouts"}
"""These also count what no tracepoint shows."""


SKIPPED = {"lossy transfer": 3}
"""How often a trouble may be tried.

With hundreds of retransmits while other probes come and go, the tested kernel (6.18) now and then
calls no program at all for some: a program that did nothing but count on tcp_retransmit_skb missed
1 to 8 of about 300 in 4 of 60 transfers, with recursion_misses 0. `verify` is right to flag that.
"""


def _findings(folder: Path, spaces: set[int]) -> tuple[list[Finding], list[Finding]]:
    """Return what was found about these namespaces or the whole, and of it what is unexplained."""
    with open_recording(folder) as recording:
        found = recording.verify()
    # Other namespaces of this host may end between their last event and their last reading.
    mine = [f for f in found.findings if f.netns is None or f.netns in spaces]
    return mine, [f for f in found.unexplained if f in mine]


def _balance(name: str, version: int, folder: Path) -> tuple[list[Finding], dict[str, int]]:
    """Make a trouble; return the findings, which must balance, and what the kernel counted."""
    trouble, _ = TROUBLES[name]
    for left in reversed(range(SKIPPED.get(name, 1))):
        with Lab() as lab, Recorder(folder / f"rec{left}") as recorder:
            trouble(lab, version)
            spaces = {host.inum: host.counters() for host in lab.hosts.values()}
            recorder.stop()
        findings, unexplained = _findings(recorder.folder, set(spaces))
        if not unexplained:
            break
    assert unexplained == []
    counted: dict[str, int] = {}
    for counters in spaces.values():
        for counter, value in counters.items():
            counted[counter] = counted.get(counter, 0) + value
    return findings, counted


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


def test_namespaces_from_before_the_start(lab: Lab, tmp_path: Path) -> None:
    """What was counted before the first reading is not held against the recording."""
    server = lab.host("server")
    with Wire(server) as wire:
        refuse_syns(server, wire, count=7)
        with Recorder(tmp_path / "rec") as recorder:
            refuse_syns(server, wire, count=11)
            recorder.stop()
    found, unexplained = _findings(recorder.folder, {server.inum})
    assert unexplained == []
    (drops,) = [f for f in found if f.subject == "TcpExt.ListenDrops"]
    assert (drops.counted, drops.recorded, drops.verdict) == (11, 11, Verdict.OK)


def test_after_kill_9_the_books_balance(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Wire(server) as wire, Recorder(tmp_path / "rec") as recorder:
        refuse_syns(server, wire)
        recorder.kill()
    assert _findings(recorder.folder, {server.inum})[1] == []


def test_a_row_that_is_taken_away_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """By the command, with its exit code."""
    server = lab.host("server")
    with Recorder(tmp_path / "rec") as recorder, Wire(server) as wire:
        refuse_syns(server, wire)
        recorder.stop()
    command = [str(PROGRAMS / "droptape"), "verify", str(recorder.folder)]
    assert _findings(recorder.folder, {server.inum})[1] == []
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
