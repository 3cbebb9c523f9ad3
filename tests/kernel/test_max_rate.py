"""Sampling above --max-rate: totals stay exact, weights add up, and nobody is starved."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.bpf import client
from droptape.bpf.kinds import all_kinds
from droptape.bpf.kinds.listen import LISTEN_EVENT
from droptape.format.manifest import Manifest
from droptape.recorder.counts import Counts
from kernel.recorded import NO_SOCKET
from lab import Lab
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import closed_tcp_port, closed_udp_port, lossy_transfer

FLOOD = 60_000
RATE = 100
FEW = 20
CLOSED_PORT, FULL_PORT, BUSY_PORT = 9, 40001, 40002


def test_a_flood_is_sampled_and_adds_up(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec", "--max-rate", str(RATE)) as recorder:
        start = time.monotonic()
        closed_udp_port(server, client, link.address(server), count=FLOOD)
        seconds = time.monotonic() - start
        # Other keys: few events in the midst of the rest of the flood.
        closed_tcp_port(server, client, link.address(server), count=FEW)
        time.sleep(1.5)
        # The same key once more, when the flood is over.
        closed_udp_port(server, client, link.address(server), count=FEW)
        time.sleep(0.5)
        recorder.stop()
    where = f"netns = {server.inum} AND {NO_SOCKET}"
    with open_recording(recorder.folder) as recording:
        ((rows, weights, heaviest),) = recording.sql(
            f"""SELECT count(*), sum(weight), max(weight) FROM drops
                WHERE protocol = 'UDP' AND {where}"""
        ).fetchall()
        ((few, few_weights),) = recording.sql(
            f"SELECT count(*), sum(weight) FROM drops WHERE protocol = 'TCP' AND {where}"
        ).fetchall()
        ((last_weights,),) = recording.sql(
            f"""SELECT sum(weight) FROM (SELECT weight FROM drops WHERE protocol = 'UDP' AND {where}
                ORDER BY mono_ns DESC LIMIT {FEW})"""
        ).fetchall()
        ((events, recorded),) = recording.sql(
            f"""SELECT sum(events), sum(recorded) FROM totals WHERE kind = 'drops' AND NOT benign
                AND protocol = 'UDP' AND cause = 'NO_SOCKET' AND netns = {server.inum}"""
        ).fetchall()
        ((lost,),) = recording.sql(
            "SELECT coalesce(sum(events), 0) FROM losses WHERE kind = 'drops' AND cause = 'sampled'"
        ).fetchall()
        ((other,),) = recording.sql(
            "SELECT count(*) FROM losses WHERE cause <> 'sampled'"
        ).fetchall()
        assert recording.verify().unexplained == []
        summary = recording.summary()
    assert events == FLOOD + FEW
    assert recorded == weights
    assert weights + lost == FLOOD + FEW
    assert last_weights == FEW
    assert other == 0
    # RATE rows, then fewer and fewer: half of RATE for each doubling of what one stands for.
    windows = (seconds + 4.2) / 1.07 * 2  # on two processors
    assert RATE < rows < windows * RATE * 8
    assert heaviest > 10
    assert lost < FLOOD / 10
    assert (few, few_weights) == (FEW, FEW)
    (kind,) = [k for k in summary.kinds if k["kind"] == "drops"]
    assert kind["unaccounted"] == 0
    assert any("drops were sampled" in note for note in Manifest.read(recorder.folder).notes)


def _burst_and_one_later(count: int) -> None:
    """Send to a closed port of this host, and once more when a window of the sampling is over."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x", ("127.0.0.1", CLOSED_PORT))
        window = time.monotonic_ns() >> 30  # WINDOW_BITS in totals.h
        while time.monotonic_ns() >> 30 == window:
            time.sleep(0.01)
        sender.sendto(b"x", ("127.0.0.1", CLOSED_PORT))


def test_that_rows_were_sampled_is_known_also_after_their_window(lab: Lab) -> None:
    host = lab.host("host")
    loaded = client.load(["drops"], max_rate=RATE)
    try:
        host.call(_burst_and_one_later, 10 * RATE)
        counts = Counts(loaded, [all_kinds()["drops"].table.with_enums(loaded.enums())])
        events = counts.totals()
    finally:
        loaded.close()
    assert events["events"][events["netns"] == host.inum].sum() > RATE
    assert counts.sampled == {"drops"}


@pytest.mark.parametrize("rate", ["0", "10000"])
def test_below_the_rate_every_event_has_its_row(lab: Lab, tmp_path: Path, rate: str) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    count = 3000 if rate != "0" else 40_000
    with Recorder(tmp_path / "rec", "--max-rate", rate) as recorder:
        closed_udp_port(server, client, link.address(server), count=count)
        time.sleep(0.5)
        recorder.stop()
    with open_recording(recorder.folder) as recording:
        sql = f"""SELECT count(*), max(weight) FROM drops
                  WHERE netns = {server.inum} AND protocol = 'UDP' AND {NO_SOCKET}"""
        assert recording.sql(sql).fetchall() == [(count, 1)]
        assert recording.summary().losses == []
    assert Manifest.read(recorder.folder).notes == []


def test_sampled_retransmits_equal_the_counter(lab: Lab, tmp_path: Path) -> None:
    """A row stands for so many segments as all that were sent again since the last one."""
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client, offload=False)
    with Recorder(tmp_path / "rec", "--max-rate", "1") as recorder:
        time.sleep(1.5)
        lossy_transfer(server, client, link.address(server), lost_percent=10, size=3_000_000)
        time.sleep(1.5)
        recorder.stop()
    with open_recording(recorder.folder) as recording:
        ((rows, heaviest, segments),) = recording.sql(
            "SELECT count(*), max(weight), sum(weight * segments) FROM retransmits"
        ).fetchall()
        ((total,),) = recording.sql(
            "SELECT sum(events) FROM totals WHERE kind = 'retransmits' AND NOT benign"
        ).fetchall()
        ((lost,),) = recording.sql(
            "SELECT coalesce(sum(events), 0) FROM losses WHERE kind = 'retransmits'"
        ).fetchall()
        books = recording.verify()
    assert books.unexplained == []
    assert heaviest > 1
    assert segments + lost == total
    assert rows < total / 2


def _leave_unread(count: int, each: int) -> None:
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
            reader.bind(("127.0.0.1", 0))
            for _ in range(each):
                reader.sendto(b"x", reader.getsockname())


def test_benign_rows_are_sampled_and_add_up(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("host")
    with Recorder(tmp_path / "rec", "--include-benign", "--max-rate", "10") as recorder:
        host.call(_leave_unread, 50, 50)
        time.sleep(1.5)
        recorder.stop()
    with open_recording(recorder.folder) as recording:
        ((rows, weights),) = recording.sql(
            "SELECT count(*), sum(weight) FROM drops WHERE benign"
        ).fetchall()
        ((events,),) = recording.sql("SELECT sum(events) FROM totals WHERE benign").fetchall()
        ((lost,),) = recording.sql("SELECT coalesce(sum(events), 0) FROM losses").fetchall()
        assert recording.verify().unexplained == []
    # The sockets are gone when they are dropped, and with them their namespace.
    assert events >= 50 * 50
    assert weights + lost == events
    assert rows < weights


def _send(child: Child, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        child.ready()
        while not child.stopping():
            for _ in range(500):
                # A closed port is reported to the next call.
                with suppress(ConnectionRefusedError):
                    sender.send(b"x")


def _connect(child: Child, port: int) -> None:
    child.ready()
    while not child.stopping():
        for _ in range(100):
            with socket.socket() as client:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))


def _never_read(child: Child) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full,
        socket.socket() as busy,
        socket.socket() as waiting,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        full.bind(("127.0.0.1", FULL_PORT))
        busy.bind(("127.0.0.1", BUSY_PORT))
        busy.listen(0)
        waiting.connect(("127.0.0.1", BUSY_PORT))
        child.ready()
        while not child.stopping():
            time.sleep(0.05)


def test_many_floods_at_once_leave_nothing_out(lab: Lab, tmp_path: Path) -> None:
    host, quiet, peer = lab.host("storm"), lab.host("quiet"), lab.host("peer")
    link = lab.link(quiet, peer)
    with Recorder(tmp_path / "rec", "--max-rate", str(RATE)) as recorder:
        time.sleep(1.5)
        with host.counting() as moved:
            victims = host.spawn(_never_read)
            victims.ready()
            floods = [host.spawn(_send, port) for port in (CLOSED_PORT, FULL_PORT)]
            floods += [host.spawn(_connect, port) for port in (CLOSED_PORT, BUSY_PORT)]
            for flood in floods:
                flood.ready()
            time.sleep(1)
            closed_udp_port(quiet, peer, link.address(quiet), count=FEW)
            time.sleep(2)
            for flood in [*floods, victims]:
                flood.stop(30)
            time.sleep(1.8)
            recorder.stop()  # before the counters are read: the last of the floods come late
    with open_recording(recorder.folder) as recording:
        kinds = ("drops", "listen", "resets", "retransmits")
        books = {
            kind: recording.sql(
                f"""SELECT
                (SELECT coalesce(sum(events), 0) FROM totals WHERE kind = '{kind}' AND NOT benign),
                (SELECT coalesce(sum(weight{" * segments" if kind == "retransmits" else ""}), 0)
                 FROM {kind}),
                (SELECT coalesce(sum(events), 0) FROM losses WHERE kind = '{kind}'),
                (SELECT count(*) FROM {kind})"""
            ).fetchall()[0]
            for kind in kinds
        }
        totals: dict[str, int] = dict(
            recording.sql(
                f"""SELECT cause, sum(events)::BIGINT FROM totals WHERE netns = {host.inum}
                    AND (kind = 'listen' OR kind = 'drops' AND protocol = 'UDP')
                    AND NOT benign GROUP BY cause"""
            ).fetchall()
        )
        over = recording.sql(
            f"""SELECT * FROM (SELECT reason, function, sum(weight) AS w FROM drops
                WHERE netns = {host.inum} AND protocol = 'UDP' GROUP BY ALL) AS d
                JOIN (SELECT cause, sum(events) AS e FROM totals WHERE netns = {host.inum}
                      AND kind = 'drops' AND protocol = 'UDP' GROUP BY ALL) AS t
                ON d.reason = t.cause WHERE w > e"""
        ).fetchall()
        few = recording.sql(
            f"""SELECT count(*), sum(weight) FROM drops
                WHERE netns = {quiet.inum} AND protocol = 'UDP' AND {NO_SOCKET}"""
        ).fetchall()
        causes = recording.sql("SELECT DISTINCT cause FROM losses").fetchall()
        assert recording.verify().unexplained == []
    for kind, (events, weights, lost, rows) in books.items():
        assert events == weights + lost, kind
        assert rows <= weights or kind == "retransmits", kind
    assert sum(events for events, _, _, _ in books.values()) > 5 * sum(
        rows for _, _, _, rows in books.values()
    )
    udp = sum(n for cause, n in totals.items() if cause in ("NO_SOCKET", "SOCKET_RCVBUFF"))
    refused = sum(n for cause, n in totals.items() if cause in LISTEN_EVENT.values.values())
    assert udp == moved["Udp.NoPorts"] + moved["Udp.RcvbufErrors"] > 20 * RATE
    assert refused == moved["TcpExt.ListenDrops"] > 20 * RATE
    assert over == []
    assert few == [(FEW, FEW)]
    assert causes in ([], [("sampled",)])
