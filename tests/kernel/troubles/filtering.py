"""Firewalls, lost packets, and connects that fail."""

from __future__ import annotations

from lab import trouble
from lab.trouble.ports import closed_udp_port

from .stage import Expected, Stage, making


@making
def conntrack(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    with trouble.full_conntrack(server) as size:
        closed_udp_port(server, client, link.address(server), count=30)
    return Expected(
        "conntrack_full", server, "critical", {"dropped": 30, "peak": size, "maximum": size}
    )


@making
def firewall_on_the_way_in(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    loss = trouble.lossy_transfer(server, client, link.address(server))
    return Expected(
        "firewall", server, "warning",
        {"events": loss.dropped, "path": "input", "function": "nft_do_chain", "wanted": True,
         "midway": loss.dropped, "most": f"TCP {min(loss.server.port, loss.client.port)}"},
        beside=("retransmits_dropped_here",),
    )  # fmt: skip


@making
def firewall_on_the_way_through(stage: Stage) -> Expected:
    server, client, router = stage.host(), stage.host(), stage.host()
    inside = stage.link(server, router)
    outside = stage.link(router, client, v4="10.77.2.0/30", v6="fd77:2::/64")
    router.forward()
    server.route("default", via=inside.address(router))
    client.route("default", via=outside.address(router))
    loss = trouble.lossy_transfer(server, client, inside.address(server), firewall=router)
    return Expected(
        "firewall", router, "warning", {"events": loss.dropped, "path": "forward"},
        beside=("retransmits_dropped_here",),
    )  # fmt: skip


@making
def firewall_on_the_way_out(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    say = f"for n in $(seq 30); do echo hi >/dev/udp/{link.address(server)}/9; done 2>&-; true"
    with trouble.dropping(client, "udp dport 9", hook="output"):
        client.run(["bash", "-c", say])
    return Expected(
        "firewall", client, "warning", {"events": 30, "path": "output", "most": "UDP 9"}
    )


@making
def dropped_here(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    loss = trouble.lossy_transfer(server, client, link.address(server), comm="bulk-sender")
    return Expected(
        "retransmits_dropped_here", client, "warning",
        {"reason": "NETFILTER_DROP", "function": "nft_do_chain", "drop_netns": server.inum,
         "owner_comm": "bulk-sender", "owner_pid": loss.client_pid, "connections": 1,
         "other_namespace": True},
        beside=("firewall",),
    )  # fmt: skip


@making
def lost_elsewhere(stage: Stage) -> Expected:
    server, wire = stage.wired()
    silence = trouble.unacknowledged(server, wire)
    return Expected(
        "retransmits_lost_elsewhere", server, "warning",
        {"owner_comm": "pusher", "owner_pid": silence.pid, "peers": silence.count},
    )  # fmt: skip


@making
def connects_unanswered(stage: Stage) -> Expected:
    client, wire = stage.wired()
    silence = trouble.unanswered(client, wire)
    return Expected(
        "connect_timeouts", client, "warning",
        {"attempts": 5, "events": 5, "peer": silence.remote.address, "port": silence.remote.port,
         "owner_comm": "hopeful", "owner_pid": silence.pid, "seen_here": False},
    )  # fmt: skip


@making
def connects_dropped_here(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    crowd = trouble.slow_server(server, client, link.address(server), seconds=2.0)
    return Expected(
        "connect_timeouts", client, "warning",
        {"reason": "full accept queue", "seen_here": True, "drop_netns": server.inum,
         "owner_pid": crowd.client_pid},
        beside=("accept_queue",),
    )  # fmt: skip


@making
def connects_refused(stage: Stage) -> Expected:
    client, wire = stage.wired()
    silence = trouble.refused(client, wire)
    return Expected(
        "connects_refused", client, "warning",
        {"events": silence.count, "peer": silence.remote.address, "port": 5432,
         "owner_comm": "turned-away", "owner_pid": silence.pid},
    )  # fmt: skip


@making
def handshakes_unfinished(stage: Stage) -> Expected:
    server, wire = stage.wired()
    silence = trouble.unfinished(server, wire)
    return Expected(
        "handshakes_unfinished", server, "notice",
        {"events": silence.count, "clients": silence.count, "owner_pid": silence.pid},
    )  # fmt: skip
