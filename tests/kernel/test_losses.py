"""What could not be recorded is counted, and nothing is missing from the books."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.bpf import loader, sizes
from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.recorder.counts import Counts
from kernel.recorded import ask
from lab import Host, Lab
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import closed_udp_port, dropping
from lab.unseen import Unseen

FLOOD = 80_000
"""More than the ring of drops holds."""


def test_a_full_ring_is_counted(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec", "--max-rate", "0") as recorder:
        os.kill(recorder.pid, signal.SIGSTOP)
        try:
            closed = closed_udp_port(server, client, link.address(server), count=FLOOD)
        finally:
            os.kill(recorder.pid, signal.SIGCONT)
        ((rows,),) = ask(recorder, f"SELECT sum(weight) FROM drops WHERE netns = {server.inum}")
        ((total, recorded),) = ask(
            recorder,
            f"""SELECT sum(events), sum(recorded) FROM totals
                WHERE kind = 'drops' AND NOT benign AND netns = {server.inum}""",
            totals=True,
        )
        # Of the whole host, as losses are: it may drop something too meanwhile.
        ((missing,),) = ask(
            recorder,
            "SELECT sum(events) - sum(recorded) FROM totals WHERE kind = 'drops' AND NOT benign",
            totals=True,
        )
        ((lost,),) = ask(
            recorder,
            "SELECT sum(events) FROM losses WHERE kind = 'drops' AND cause = 'ring_full'",
        )
        recorder.stop()
    assert total == closed.attempts == FLOOD
    assert recorded == rows < FLOOD
    assert lost == missing >= total - rows
    assert not list(recorder.folder.rglob("*.damaged"))
    ((lost_after,),) = ask(recorder, "SELECT sum(events) FROM losses")
    assert lost_after == lost


FIREWALLED, CLOSED = 40001, 9
SECONDS = 3.0


def _send(child: Child, cpu: int, port: int) -> None:
    os.sched_setaffinity(0, {cpu})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        child.ready()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(200):
                with suppress(ConnectionRefusedError, PermissionError):
                    sock.send(b"x")


def _steer(host: Host, cpus: int) -> None:
    """Let the processors of this mask take what comes by loopback (RPS)."""
    rps = f"mount -t sysfs sys /sys && echo {cpus} >/sys/class/net/lo/queues/rx-0/rps_cpus"
    host.run(["unshare", "--mount", "sh", "-c", rps])


@pytest.mark.skipif(os.cpu_count() == 1, reason="takes two processors")
def test_a_program_that_would_interrupt_itself(lab: Lab, tmp_path: Path) -> None:
    # One processor drops what a process sends, in the process's context; what the other sends is
    # handed to it (RPS), and dropped in soft interrupts in the midst of that.
    host = lab.host("host")
    _steer(host, 1)
    with (
        Unseen(buffer_kb=20_000) as unseen,
        Recorder(tmp_path / "rec") as recorder,
        dropping(host, f"udp dport {FIREWALLED}", hook="output"),
    ):
        time.sleep(1.2)
        with host.counting() as moved:
            senders = [host.spawn(_send, 0, FIREWALLED), host.spawn(_send, 1, CLOSED)]
            for sender in senders:
                sender.ready()
            for sender in senders:
                sender.join()
            time.sleep(1.2)
        recorder.stop()
        hidden = sum("udp" in event for event in unseen.events)
    ((closed,),) = ask(
        recorder,
        f"""SELECT sum(events) FROM totals WHERE kind = 'drops' AND netns = {host.inum}
            AND protocol = 'UDP' AND function LIKE '%udp%'""",
        totals=True,
    )
    ((not_run,),) = ask(
        recorder,
        """SELECT coalesce(sum(events), 0)::BIGINT FROM losses
           WHERE kind = 'drops' AND cause = 'recursion'""",
    )
    missing = moved["Udp.NoPorts"] - closed - hidden
    assert 0 <= missing <= not_run < moved["Udp.NoPorts"] / 50
    assert moved["Udp.NoPorts"] > 10_000
    with open_recording(recorder.folder) as recording:
        unexplained = recording.verify().unexplained
    assert [one for one in unexplained if one.difference > not_run + hidden] == []
    assert hidden or not unexplained


def _connect_to_itself(child: Child, count: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []
        for _ in range(count):
            kept += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
        child.ready()
        child.stopping(None)


def test_connections_without_room_are_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    host, room, count = lab.host("host"), 64, 50
    monkeypatch.setattr(sizes, "CONNECTION_ENTRIES", room)
    prepared = loader.prepare([all_kinds()["connections"]], record_benign=False)
    report, descriptors = loader.attach(prepared)
    fds = dict(zip(report["fds"], descriptors, strict=True))
    loaded = Loaded(report["kinds"], [], [], report["cpus"], report["totals_entries"], fds)
    try:
        task = host.spawn(_connect_to_itself, count)
        task.ready()
        counts = Counts(loaded, [all_kinds()["connections"].table])
        counts.totals()
        losses = counts.losses()
    finally:
        loaded.close()
    assert losses["events"].sum() >= 2 * count - room
    assert set(counts.lost["connections"]) == {"map_full"}


def _accept(child: Child, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        child.ready(listener.getsockname()[1])
        while True:
            listener.accept()[0].close()


def _connect_and_reset(child: Child, cpu: int, port: int) -> int:
    os.sched_setaffinity(0, {cpu})
    count, end = 0, time.monotonic() + 0.8
    while time.monotonic() < end:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            count += 1
        time.sleep(0.004)
    return count


@pytest.mark.skipif(os.cpu_count() == 1, reason="takes two processors")
def test_an_end_in_the_midst_of_another_is_seen(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("host")
    _steer(host, 3)
    with Unseen() as unseen, Recorder(tmp_path / "rec", "--events", "connections") as recorder:
        servers = [host.spawn(_accept, cpu) for cpu in (0, 1)]
        ports = [server.ready() for server in servers]
        clients = [host.spawn(_connect_and_reset, cpu, ports[1 - cpu]) for cpu in (0, 1)]
        connected = sum(client.join() for client in clients)
        time.sleep(0.1)
        recorder.stop()
        hidden = sum("newstate=TCP_CLOSE " in f"{event} " for event in unseen.events)
    with open_recording(recorder.folder) as recording:
        sql = f"SELECT sum(events), sum(recorded) FROM totals WHERE netns = {host.inum}"
        ((ended, recorded),) = recording.sql(sql).fetchall()
        sql = "SELECT count(*) FROM connections WHERE open AND state = 'CLOSE'"
        ((left_open,),) = recording.sql(sql).fetchall()
        ((told,),) = recording.sql("SELECT coalesce(sum(events), 0) FROM losses").fetchall()
    assert 0 <= 2 * connected - ended <= hidden + told < connected / 20
    assert (recorded, left_open) == (ended, 0)
