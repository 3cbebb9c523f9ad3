"""Retransmits by kind, against the kernel's counters."""

from __future__ import annotations

import time

import pytest

from kernel.recorded import ask, reason
from lab import Lab
from lab.recorder import Recorder
from lab.trouble import (
    closed_tcp_port,
    lost_in_burst,
    reset_connection,
    send_syns,
    start_listener,
    syn_blackhole,
    tail_loss,
)
from lab.wire import Wire


@pytest.mark.parametrize("version", [4, 6])
def test_syn(lab: Lab, recorder: Recorder, version: int) -> None:
    client = lab.host("client")
    with Wire(client) as wire, client.counting() as counted:
        blackhole = syn_blackhole(client, wire, version=version)
    rows = ask(
        recorder,
        f"""SELECT kind, tcp_flags, saddr, sport, daddr, dport, owner_pid, owner_comm,
                   owner_source, state, sum(segments)
            FROM retransmits WHERE netns = {client.inum} GROUP BY ALL""",
    )
    assert rows == [
        (
            "SYN", "SYN", *blackhole.client, *blackhole.target, blackhole.pid, "hopeful",
            "connect", "SYN_SENT", counted["TcpExt.TCPSynRetrans"],
        )
    ]  # fmt: skip
    assert counted["TcpExt.TCPSynRetrans"] == counted["Tcp.RetransSegs"] > 0


@pytest.mark.parametrize("version", [4, 6])
def test_synack(lab: Lab, recorder: Recorder, version: int) -> None:
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        listener = start_listener(server, wire.local(version), backlog=5, comm="patient")
        client = wire.remote(1, version)
        assert send_syns(wire, listener.local, [client])
        time.sleep(1.3)
    rows = ask(
        recorder,
        f"""SELECT kind, tcp_flags, daddr, dport, owner_pid, state, sum(segments)
            FROM retransmits WHERE netns = {server.inum} GROUP BY ALL""",
    )
    listener.close()
    assert rows == [
        ("SYNACK", "SYN|ACK", *client, listener.pid, "NEW_SYN_RECV", counted["Tcp.RetransSegs"])
    ]
    assert counted["Tcp.RetransSegs"] > 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("lost", "kinds", "counter"),
    [(1, {"TLP"}, "TcpExt.TCPLossProbes"), (2, {"TLP", "RTO"}, "TcpExt.TCPTimeouts")],
)
def test_tail_loss(
    lab: Lab, recorder: Recorder, version: int, lost: int, kinds: set[str], counter: str
) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with client.counting() as counted:
        loss = tail_loss(server, client, link.address(server, version), lost=lost)
    rows = ask(
        recorder,
        f"""SELECT kind, sum(segments), list(DISTINCT (saddr, sport, daddr, dport)),
                   min(srtt_us), min(rto_us), min(cwnd), min(mss), max(length)
            FROM retransmits WHERE netns = {client.inum} GROUP BY kind""",
    )
    assert {row[0] for row in rows} == kinds
    assert sum(row[1] for row in rows) == counted["Tcp.RetransSegs"]
    assert counted[counter] >= 1
    for row in rows:
        assert row[2] == [(*loss.client, *loss.server)]
        assert 0 < row[3] < row[4]
        assert row[5] >= 1
        assert row[6] >= 500
        assert row[7] == 1000


@pytest.mark.parametrize("version", [4, 6])
def test_fast(lab: Lab, recorder: Recorder, version: int) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with client.counting() as counted:
        lost_in_burst(server, client, link.address(server, version))
    rows = ask(
        recorder,
        f"SELECT kind, sum(segments) FROM retransmits WHERE netns = {client.inum} GROUP BY kind",
    )
    assert rows == [("FAST", counted["TcpExt.TCPFastRetrans"])]
    assert counted["TcpExt.TCPFastRetrans"] == counted["Tcp.RetransSegs"] > 0


def test_window_scaling_is_told(lab: Lab, recorder: Recorder) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    tail_loss(server, client, link.address(server))
    client.sysctl("net.ipv4.tcp_window_scaling", 0)
    tail_loss(server, client, link.address(server))
    rows = ask(
        recorder,
        f"""SELECT window_scaling, min(snd_wscale), min(rcv_wscale) FROM retransmits
            WHERE netns = {client.inum} GROUP BY 1 ORDER BY 1""",
    )
    assert [row[0] for row in rows] == [False, True]
    assert rows[0][1:] == (0, 0)
    assert rows[1][1] > 0
    assert rows[1][2] > 0


@pytest.mark.parametrize("version", [4, 6])
def test_resets_of_a_closed_port(lab: Lab, recorder: Recorder, version: int) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    closed = closed_tcp_port(server, client, link.address(server, version))
    rows = ask(
        recorder,
        f"""SELECT netns, direction, reason, saddr, sport, daddr, count(*) FROM resets
            WHERE netns IN ({server.inum}, {client.inum}) GROUP BY ALL ORDER BY direction DESC""",
    )
    flow = (*closed.target, link.address(client, version), closed.attempts)
    sent = reason(recorder, "NO_SOCKET", hook="resets/tcp_send_reset")
    assert rows == [
        (server.inum, "sent", sent, *flow),
        (client.inum, "received", None, *flow),
    ]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("cause", ["linger", "unread"])
def test_reset_of_a_connection(lab: Lab, recorder: Recorder, version: int, cause: str) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with server.counting() as counted:
        reset = reset_connection(
            server,
            client,
            link.address(server, version),
            cause=cause,  # type: ignore[arg-type]
        )
    rows = ask(
        recorder,
        f"""SELECT direction, saddr, sport, daddr, dport, owner_comm FROM resets
            WHERE netns IN ({server.inum}, {client.inum}) ORDER BY direction""",
    )
    flow = (*reset.server, *reset.client)
    assert counted["Tcp.OutRsts"] == 1
    assert ("received", *flow, "cut-off") in rows
    assert sum(row[0] == "sent" and row[1:5] == flow for row in rows) == 1
