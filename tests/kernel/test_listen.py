"""Refused connections: as many as the kernel counted, with listener, client and cause."""

from __future__ import annotations

import socket

import pytest

from kernel.recorded import ask, one
from lab import Endpoint, Host, Lab
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import (
    Refused,
    flood_syns,
    refuse_final_acks,
    refuse_syns,
    slow_server,
    start_listener,
)
from lab.wire import Wire


def _check(recorder: Recorder, server: Host, refused: Refused, event: str) -> None:
    rows = ask(
        recorder,
        f"""SELECT saddr, sport, laddr, lport, owner_pid, owner_comm, owner_source, backlog,
                   event, sum(weight)
            FROM listen WHERE netns = {server.inum} AND lport = {refused.listener.local.port}
            GROUP BY ALL""",
    )
    assert sum(row[-1] for row in rows) == refused.listen_drops
    assert {(row[0], row[1]) for row in rows} == set(refused.clients)
    listener = refused.listener
    for row in rows:
        assert row[2:9] == (
            *listener.local,
            listener.pid,
            listener.comm,
            "listen",
            listener.backlog,
            event,
        )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("syncookies", [0, 1, 2])
def test_syns_refused_by_a_full_accept_queue(
    lab: Lab, recorder: Recorder, version: int, syncookies: int
) -> None:
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        refused = refuse_syns(server, wire, version=version, syncookies=syncookies)
    assert counted["TcpExt.ListenDrops"] == refused.listen_drops > 0
    _check(recorder, server, refused, "accept_queue_full")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("abort", [0, 1])
@pytest.mark.parametrize("syncookies", [0, 1, 2])
def test_final_acks_refused_by_a_full_accept_queue(
    lab: Lab, recorder: Recorder, version: int, syncookies: int, abort: int
) -> None:
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        refused = refuse_final_acks(
            server, wire, version=version, syncookies=syncookies, abort_on_overflow=abort
        )
    assert counted["TcpExt.ListenDrops"] == refused.listen_drops > 0
    _check(recorder, server, refused, "ack_dropped")


@pytest.mark.parametrize("version", [4, 6])
def test_syns_refused_by_a_full_syn_queue(lab: Lab, recorder: Recorder, version: int) -> None:
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        refused = flood_syns(server, wire, version=version, syncookies=0)
    assert counted["TcpExt.ListenDrops"] == refused.listen_drops > 0
    _check(recorder, server, refused, "syn_queue_full")


@pytest.mark.parametrize("syncookies", [1, 2])
def test_cookies_refuse_nobody(lab: Lab, recorder: Recorder, syncookies: int) -> None:
    server = lab.host("server")
    with Wire(server) as wire, server.counting() as counted:
        flood_syns(server, wire, syncookies=syncookies)
    assert counted.get("TcpExt.ListenDrops", 0) == 0
    assert one(recorder, f"SELECT count(*) FROM listen WHERE netns = {server.inum}") == 0


@pytest.mark.parametrize("version", [4, 6])
def test_real_clients_of_a_slow_server(lab: Lab, recorder: Recorder, version: int) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with server.counting() as counted:
        crowd = slow_server(server, client, link.address(server, version))
    rows = ask(
        recorder,
        f"""SELECT sum(weight), list(DISTINCT owner_pid), list(DISTINCT saddr)
            FROM listen WHERE netns = {server.inum}""",
    )
    assert rows == [(counted["TcpExt.ListenDrops"], [crowd.pid], [link.address(client, version)])]
    assert counted["TcpExt.ListenDrops"] > 0
    # What lay in a queue when its socket was closed has no device any more, so no path.
    drops = f"""SELECT DISTINCT path FROM drops
                WHERE netns = {server.inum} AND protocol = 'TCP'
                AND reason IS DISTINCT FROM 'QUEUE_PURGE'"""
    assert ask(recorder, drops) == [("input",)]


def _flood(child: Child, target: Endpoint) -> None:
    for _ in range(400):
        with socket.socket() as connection:
            connection.setblocking(False)
            connection.connect_ex(target)


def test_floods_in_parallel_on_three_listeners(lab: Lab, recorder: Recorder) -> None:
    server = lab.host("server")
    clients = [lab.host(f"client{n}") for n in range(3)]
    links = [
        lab.link(server, client, v4=f"10.77.{n}.0/30", v6=f"fd77:{n}::/64")
        for n, client in enumerate(clients)
    ]
    listeners = [
        start_listener(server, link.address(server), backlog=backlog, comm=f"full{backlog}")
        for link, backlog in zip(links, (1, 3, 5), strict=True)
    ]
    with server.counting() as counted:
        floods = [
            client.spawn(_flood, listener.local)
            for client, listener in zip(clients, listeners, strict=True)
        ]
        for flood in floods:
            flood.join()
    rows = ask(
        recorder,
        f"""SELECT lport, owner_pid, sum(weight) FROM listen
            WHERE netns = {server.inum} GROUP BY ALL""",
    )
    assert sum(row[2] for row in rows) == counted["TcpExt.ListenDrops"] > 300
    assert {row[:2] for row in rows} == {(one.local.port, one.pid) for one in listeners}
    for listener in listeners:
        listener.close()


def test_totals_agree_with_the_rows(lab: Lab, recorder: Recorder) -> None:
    server = lab.host("server")
    with Wire(server) as wire:
        refused = refuse_syns(server, wire)
    rows = ask(
        recorder,
        f"SELECT cause, sum(events), sum(recorded) FROM totals "
        f"WHERE kind = 'listen' AND netns = {server.inum} GROUP BY ALL",
        totals=True,
    )
    drops = refused.listen_drops
    assert rows == [("accept_queue_full", drops, drops)]
