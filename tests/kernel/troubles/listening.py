"""Refused connections, and datagrams without room."""

from __future__ import annotations

from lab import trouble

from .stage import Expected, Stage, making


@making
def accept_queue_of_the_program(stage: Stage) -> Expected:
    server, wire = stage.wired()
    refused = trouble.refuse_syns(server, wire, count=80, comm="auction-server")
    return Expected(
        "accept_queue", server, "critical",
        {"events": refused.listen_drops, "lport": refused.listener.local.port, "backlog": 4,
         "owner_pid": refused.listener.pid, "owner_comm": "auction-server", "by_program": True,
         "by_somaxconn": False, "some_wait": True, "some_reset": False},
    )  # fmt: skip


@making
def accept_queue_of_the_host(stage: Stage) -> Expected:
    server, wire = stage.wired(core_somaxconn=4)
    refused = trouble.refuse_syns(server, wire, backlog=4)
    return Expected(
        "accept_queue", server, "warning",
        {"events": refused.listen_drops, "somaxconn": 4, "by_somaxconn": True,
         "by_program": False, "raise_somaxconn": True},
    )  # fmt: skip


@making
def accept_queue_with_resets(stage: Stage) -> Expected:
    server, wire = stage.wired(ipv4_tcp_abort_on_overflow=1)
    refused = trouble.refuse_final_acks(server, wire, abort_on_overflow=1)
    return Expected(
        "accept_queue", server, "warning",
        {"events": refused.listen_drops, "some_reset": True, "some_wait": False},
    )  # fmt: skip


@making
def syn_queue(stage: Stage) -> Expected:
    server, wire = stage.wired(ipv4_tcp_syncookies=0)
    refused = trouble.flood_syns(server, wire)
    return Expected(
        "syn_queue", server, "critical",
        {"events": refused.listen_drops, "cookies_off": True, "by_backlog": True, "backlog": 16},
    )  # fmt: skip


@making
def syn_unanswered(stage: Stage) -> Expected:
    server, wire = stage.wired()
    clients = [wire.remote(number) for number in range(12)]
    for address in {client.address for client in clients}:
        server.run(["ip", "route", "add", "prohibit", address])
    listener = trouble.start_listener(server, wire.local(), comm="no-way-back")
    assert not trouble.send_syns(wire, listener.local, clients)
    assert listener.close() == 0
    return Expected(
        "syn_unanswered", server, "warning",
        {"events": 12, "lport": listener.local.port, "owner_pid": listener.pid, "no_route": True,
         "unrouted": 12},
    )  # fmt: skip


@making
def syn_cookies(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.flood_syns(server, wire, syncookies=1)
    return Expected("syn_cookies", server, "notice", {"always": False})


@making
def udp_buffer_of_the_program(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    slow = trouble.slow_udp_reader(server, client, link.address(server), pause=0.005)
    return Expected(
        "udp_receive_buffer", server, "warning",
        {"events": slow.dropped, "port": slow.target.port, "owner_comm": slow.comm,
         "rcvbuf": 2 * 16384, "by_program": True, "by_default": False, "by_max": False},
    )  # fmt: skip


@making
def udp_buffer_of_the_host(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    slow = trouble.slow_udp_reader(
        server, client, link.address(server), count=1200, pause=0.001, receive_buffer=1 << 29,
        size=20000,
    )  # fmt: skip
    return Expected(
        "udp_receive_buffer", server, "critical",
        {"events": slow.dropped, "by_max": True, "by_program": False, "raise_max": True},
    )  # fmt: skip
