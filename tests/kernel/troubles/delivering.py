"""Packets that find no socket, route, neighbour, queue or memory."""

from __future__ import annotations

from lab import trouble

from .stage import Expected, Stage, making


@making
def checksums(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.damaged_segments(wire)
    return Expected(
        "bad_checksums", server, "warning",
        {"events": burst.sent, "reason": "TCP_CSUM", "ifname": "wire0", "senders": 20},
    )  # fmt: skip


@making
def closed_port(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    closed = trouble.closed_tcp_port(server, client, link.address(server), count=80)
    return Expected(
        "closed_port", server, "warning",
        {"events": 80, "port": closed.target.port, "protocol": "TCP", "clients": 1,
         "client": link.address(client)},
    )  # fmt: skip


@making
def port_scan(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    address = link.address(server)
    ports = " ".join(str(port) for port in range(2000, 2030))
    client.run(["bash", "-c", f"for p in {ports}; do (: </dev/tcp/{address}/$p) 2>&- ; done; true"])
    return Expected(
        "port_scan", server, "notice",
        {"events": 30, "ports": 30, "client": link.address(client), "lowest": 2000},
    )  # fmt: skip


@making
def late_answers(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    trouble.late_answers(server, client, link.address(server), count=30)
    return Expected(
        "late_answers", client, "notice",
        {"events": 30, "servers": 1, "server": link.address(server), "port": 5300},
    )  # fmt: skip


@making
def reverse_path(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.reverse_path(server, wire)
    return Expected(
        "reverse_path", server, "warning",
        {"events": burst.sent, "ifname": "wire0", "senders": 20, "daddr": wire.local()},
    )  # fmt: skip


@making
def neighbour(stage: Stage) -> Expected:
    _, client, link = stage.pair(v4="10.77.1.0/24")
    burst = trouble.silent_neighbour(client, link, "10.77.1.77")
    return Expected(
        "neighbour", client, "warning",
        {"events": burst.sent, "daddr": "10.77.1.77", "ifname": link.device(client),
         "reason": "NEIGH_FAILED", "owner_comm": "chatter", "owner_pid": burst.pid},
    )  # fmt: skip


@making
def queue(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    burst = trouble.short_queue(client, link, link.address(server))
    return Expected(
        "queue_drops", client, "warning",
        {"ifname": link.device(client), "owner_comm": "chatter", "owner_pid": burst.pid},
    )  # fmt: skip


@making
def tun_without_reader(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.unread_tun(server, wire)
    return Expected("device_drops", server, "warning", {"device": "wire0", "some_unsent": True})


@making
def small_buffer(stage: Stage) -> Expected:
    server, wire = stage.wired()
    crammed = trouble.small_receive_buffer(server, wire)
    return Expected(
        "tcp_receive_buffer", server, "warning",
        {"port": crammed.local.port, "owner_comm": crammed.comm, "owner_pid": crammed.pid,
         "rcvbuf": 8192},
    )  # fmt: skip


@making
def memory(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.small_receive_buffer(server, wire)
    return Expected("memory_pressure", server, "notice", beside=("tcp_receive_buffer",))


@making
def busy(stage: Stage) -> Expected:
    server, wire = stage.wired()
    crammed = trouble.busy_socket(server, wire)
    return Expected(
        "socket_backlog", server, "warning",
        {"port": crammed.local.port, "owner_comm": crammed.comm, "owner_pid": crammed.pid},
    )  # fmt: skip
