"""Windows, resets, and what is left."""

from __future__ import annotations

from lab import trouble

from .stage import Expected, Stage, making


@making
def scaling_off(stage: Stage) -> Expected:
    server = stage.host_with(ipv4_tcp_window_scaling=0)
    return Expected("window_scaling_off", server, "warning", {"value": "0"})


@making
def scaling_refused(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    server.sysctl("net.ipv4.tcp_window_scaling", 0)
    for _ in range(3):
        trouble.transfer(server, client, link.address(server), size=100_000)
    return Expected(
        "window_scaling_refused", client, "warning",
        {"connections": 3, "peers": 1, "peer": link.address(server)},
        beside=("window_scaling_off",),
    )  # fmt: skip


@making
def scaling_lost(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    server.sysctl("net.ipv4.tcp_window_scaling", 0)
    trouble.lossy_transfer(server, client, link.address(server), size=1_000_000)
    return Expected(
        "window_scaling_lost", client, "info", {"connections": 1, "peer": link.address(server)},
        beside=("window_scaling_off", "firewall", "retransmits_dropped_here"),
    )  # fmt: skip


@making
def slow_reader(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    slow = trouble.slow_tcp_reader(server, client, link.address(server), pauses=3, pause_s=2.0)
    return Expected(
        "slow_reader", client, "warning",
        {"connections": 1, "peer": link.address(server), "port": slow.server.port,
         "owner_pid": slow.client_pid, "reader_pid": slow.server_pid, "reader_comm": "reader"},
    )  # fmt: skip


@making
def zero_window(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    trouble.slow_tcp_reader(server, client, link.address(server), pauses=1, pause_s=0.5)
    return Expected("zero_window", client, "info", {"waits": True})


@making
def resets_by_a_close(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    for _ in range(12):
        trouble.reset_connection(server, client, link.address(server), cause="unread")
    return Expected(
        "resets_sent", server, "notice",
        {"events": 12, "reason": "TCP_ABORT_ON_CLOSE", "unread": True, "owner_comm": "resetter"},
    )  # fmt: skip


@making
def resets_from_outside(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    for _ in range(12):
        trouble.reset_connection(server, client, link.address(server), cause="linger")
    return Expected("resets_received", client, "notice", {"events": 12, "owner_comm": "cut-off"})


@making
def no_route(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.not_for_us(wire)
    return Expected("no_route", server, "warning", {"events": burst.sent, "daddr": "203.0.113.9"})


@making
def too_large(stage: Stage) -> Expected:
    router, wire = stage.wired()
    target = stage.host()
    link = stage.link(router, target)
    burst = trouble.too_large(router, wire, link, target)
    return Expected("too_large", router, "warning", {"events": burst.sent, "length": 1440})


@making
def policy(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    burst = trouble.socket_filter(server, client, link.address(server))
    return Expected(
        "policy", server, "notice",
        {"events": burst.sent, "reason": "SOCKET_FILTER", "by_socket": True,
         "owner_comm": "picky", "owner_pid": burst.pid},
    )  # fmt: skip


@making
def xdp_behind_the_driver(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    burst = trouble.xdp_drop(server, client, link, by_driver=False, count=70)
    return Expected(
        "policy", server, "warning",
        {"decided_by": "XDP", "by_xdp": True, "ifname": link.device(server),
         "owner_comm": "chatter", "owner_pid": burst.pid},
    )  # fmt: skip


@making
def xdp_in_the_driver(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    trouble.xdp_drop(server, client, link, by_driver=True, count=70)
    return Expected("policy", server, "notice", {"decided_by": "XDP", "by_xdp": True})


@making
def other(stage: Stage) -> Expected:
    server, wire = stage.wired()
    listener = trouble.start_listener(server, wire.local())
    burst = trouble.stray_acks(wire, listener.local)
    listener.close()
    return Expected("other_drops", server, "notice", {"events": burst.sent, "reason": "TCP_FLAGS"})
