"""Retransmits by kind, against the kernel's counters."""

from __future__ import annotations

import socket
import time

import pytest

from droptape.analyze import open_recording
from kernel.recorded import ask, probe, reason
from lab import Child, Endpoint, Lab
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
from lab.trouble.sockets import endpoint, tcp_client, tcp_server
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


def _accept(child: Child, address: str) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        with listener.accept()[0]:
            child.stopping(None)


def _send_when_told(child: Child, server: Endpoint) -> None:
    with tcp_client(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        child.ready()
        child.receive()
        for _ in range(8):
            connection.send(bytes(1000))
        child.stopping(None)


def test_deferred_ones_are_in_the_totals_by_number(lab: Lab, recorder: Recorder) -> None:
    if "could not be sent not shown" in probe(recorder, "retransmits/tcp_retransmit_skb").note:
        pytest.skip("this kernel does not show what it did not send")
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client, offload=False)
    listening = server.spawn(_accept, link.address(server))
    sending = client.spawn(_send_when_told, listening.ready())
    sending.ready()
    shape = "root tbf rate 8kbit burst 1600 limit 100000"
    client.run(["tc", "qdisc", "add", "dev", link.device(client), *shape.split()])
    sending.send("go")
    time.sleep(0.8)
    sending.kill()
    sql = f"""SELECT (SELECT sum(weight) FROM retransmits
                      WHERE netns = {client.inum} AND kind = 'DEFERRED') AS rows, benign,
                     sum(events), sum(recorded)
              FROM totals WHERE kind = 'retransmits' AND cause = 'DEFERRED'
              AND netns = {client.inum} GROUP BY benign"""
    found: list[tuple[int, bool, int, int]] = []
    for _ in range(30):
        with open_recording(recorder.folder) as recording:
            found = recording.sql(sql).fetchall()
        if found and found[0][0] == found[0][2]:
            break
        time.sleep(0.2)
    ((rows, benign, events, recorded),) = found
    assert benign
    assert rows == events == recorded > 0
