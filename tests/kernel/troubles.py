"""One trouble for each rule of `droptape diagnose`, and what the finding has to say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab import Host, Lab, Link, Wire, trouble
from lab.trouble.ports import closed_udp_port


@dataclass(frozen=True)
class Expected:
    """A finding that a trouble has to bring about.

    Attributes:
        rule: Whose.
        host: In which namespace.
        severity: How severe.
        values: What its query has to give, among others.
        beside: Rules that may find something severe in the same namespaces too.
    """

    rule: str
    host: Host
    severity: str
    values: dict[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


class Stage:
    """Where one trouble takes place: hosts of its own, until the lab ends."""

    def __init__(self, lab: Lab, spare: Iterator[Host], wires: contextlib.ExitStack) -> None:
        """Prepare.

        Args:
            lab: Where links are made.
            spare: Hosts that nobody has used. They are older than the recording: the kernel gives
                the number of a namespace that is gone to the next one, and a finding is of a
                number.
            wires: Closes the wires.
        """
        self._lab, self._spare, self._wires = lab, spare, wires
        self.hosts: list[Host] = []

    def host(self) -> Host:
        """Take a host."""
        self.hosts.append(next(self._spare))
        return self.hosts[-1]

    def host_with(self, **settings: int) -> Host:
        """Make a host with settings below net (`core_somaxconn=4`).

        The recorder reads the settings of a host when it first sees it, and then seldom.
        """
        host = self._lab.host(f"set{len(self._lab.hosts)}")
        for name, value in settings.items():
            host.sysctl("net." + name.replace("_", ".", 1), value)
        self.hosts.append(host)
        return host

    def pair(self, **options: Any) -> tuple[Host, Host, Link]:
        """Make a server and a client, linked."""
        server, client = self.host(), self.host()
        return server, client, self.link(server, client, **options)

    def link(self, a: Host, b: Host, **options: Any) -> Link:
        """Link two hosts."""
        return self._lab.link(a, b, **{"offload": False, **options})

    def wired(self, **settings: int) -> tuple[Host, Wire]:
        """Make a server with a wire, and perhaps with settings."""
        server = self.host_with(**settings) if settings else self.host()
        return server, self._wires.enter_context(Wire(server))


Trouble = Callable[[Stage], Expected]
TROUBLES: dict[str, Trouble] = {}


def _trouble(function: Trouble) -> Trouble:
    TROUBLES[function.__name__] = function
    return function


@_trouble
def accept_queue_of_the_program(stage: Stage) -> Expected:
    server, wire = stage.wired()
    refused = trouble.refuse_syns(server, wire, count=80, comm="auction-server")
    return Expected(
        "accept_queue", server, "critical",
        {"events": refused.listen_drops, "lport": refused.listener.local.port, "backlog": 4,
         "owner_pid": refused.listener.pid, "owner_comm": "auction-server", "by_program": True,
         "by_somaxconn": False, "some_wait": True, "some_reset": False},
    )  # fmt: skip


@_trouble
def accept_queue_of_the_host(stage: Stage) -> Expected:
    server, wire = stage.wired(core_somaxconn=4)
    refused = trouble.refuse_syns(server, wire, backlog=4)
    return Expected(
        "accept_queue", server, "warning",
        {"events": refused.listen_drops, "somaxconn": 4, "by_somaxconn": True,
         "by_program": False, "raise_somaxconn": True},
    )  # fmt: skip


@_trouble
def accept_queue_with_resets(stage: Stage) -> Expected:
    server, wire = stage.wired(ipv4_tcp_abort_on_overflow=1)
    refused = trouble.refuse_final_acks(server, wire, abort_on_overflow=1)
    return Expected(
        "accept_queue", server, "warning",
        {"events": refused.listen_drops, "some_reset": True, "some_wait": False},
    )  # fmt: skip


@_trouble
def syn_queue(stage: Stage) -> Expected:
    server, wire = stage.wired(ipv4_tcp_syncookies=0)
    refused = trouble.flood_syns(server, wire)
    return Expected(
        "syn_queue", server, "critical",
        {"events": refused.listen_drops, "cookies_off": True, "by_backlog": True, "backlog": 16},
    )  # fmt: skip


@_trouble
def syn_cookies(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.flood_syns(server, wire, syncookies=1)
    return Expected("syn_cookies", server, "notice", {"always": False})


@_trouble
def udp_buffer_of_the_program(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    slow = trouble.slow_udp_reader(server, client, link.address(server), pause=0.005)
    return Expected(
        "udp_receive_buffer", server, "warning",
        {"events": slow.dropped, "port": slow.target.port, "owner_comm": slow.comm,
         "rcvbuf": 2 * 16384, "by_program": True, "by_default": False, "by_max": False},
    )  # fmt: skip


@_trouble
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


@_trouble
def conntrack(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    with trouble.full_conntrack(server) as size:
        closed_udp_port(server, client, link.address(server), count=30)
    return Expected(
        "conntrack_full", server, "critical", {"dropped": 30, "peak": size, "maximum": size}
    )


@_trouble
def firewall_on_the_way_in(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    loss = trouble.lossy_transfer(server, client, link.address(server))
    return Expected(
        "firewall", server, "warning",
        {"events": loss.dropped, "path": "input", "function": "nft_do_chain", "wanted": True,
         "midway": loss.dropped, "most": f"TCP {min(loss.server.port, loss.client.port)}"},
        beside=("retransmits_dropped_here",),
    )  # fmt: skip


@_trouble
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


@_trouble
def firewall_on_the_way_out(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    say = f"for n in $(seq 30); do echo hi >/dev/udp/{link.address(server)}/9; done 2>&-; true"
    with trouble.dropping(client, "udp dport 9", hook="output"):
        client.run(["bash", "-c", say])
    return Expected(
        "firewall", client, "warning", {"events": 30, "path": "output", "most": "UDP 9"}
    )


@_trouble
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


@_trouble
def lost_elsewhere(stage: Stage) -> Expected:
    server, wire = stage.wired()
    silence = trouble.unacknowledged(server, wire)
    return Expected(
        "retransmits_lost_elsewhere", server, "warning",
        {"owner_comm": "pusher", "owner_pid": silence.pid, "peers": silence.count},
    )  # fmt: skip


@_trouble
def connects_unanswered(stage: Stage) -> Expected:
    client, wire = stage.wired()
    silence = trouble.unanswered(client, wire)
    return Expected(
        "connect_timeouts", client, "warning",
        {"attempts": 5, "events": 5, "peer": silence.remote.address, "port": silence.remote.port,
         "owner_comm": "hopeful", "owner_pid": silence.pid, "seen_here": False},
    )  # fmt: skip


@_trouble
def connects_dropped_here(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    crowd = trouble.slow_server(server, client, link.address(server), seconds=2.0)
    return Expected(
        "connect_timeouts", client, "warning",
        {"reason": "full listen queue", "seen_here": True, "drop_netns": server.inum,
         "owner_pid": crowd.client_pid},
        beside=("accept_queue",),
    )  # fmt: skip


@_trouble
def connects_refused(stage: Stage) -> Expected:
    client, wire = stage.wired()
    silence = trouble.refused(client, wire)
    return Expected(
        "connects_refused", client, "warning",
        {"events": silence.count, "peer": silence.remote.address, "port": 5432,
         "owner_comm": "turned-away", "owner_pid": silence.pid},
    )  # fmt: skip


@_trouble
def handshakes_unfinished(stage: Stage) -> Expected:
    server, wire = stage.wired()
    silence = trouble.unfinished(server, wire)
    return Expected(
        "handshakes_unfinished", server, "notice",
        {"events": silence.count, "clients": silence.count, "owner_pid": silence.pid},
    )  # fmt: skip


@_trouble
def checksums(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.damaged_segments(wire)
    return Expected(
        "bad_checksums", server, "warning",
        {"events": burst.sent, "reason": "TCP_CSUM", "ifname": "wire0", "senders": 20},
    )  # fmt: skip


@_trouble
def closed_port(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    closed = trouble.closed_tcp_port(server, client, link.address(server), count=80)
    return Expected(
        "closed_port", server, "warning",
        {"events": 80, "port": closed.target.port, "protocol": "TCP", "clients": 1,
         "client": link.address(client)},
    )  # fmt: skip


@_trouble
def port_scan(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    address = link.address(server)
    ports = " ".join(str(port) for port in range(2000, 2030))
    client.run(["bash", "-c", f"for p in {ports}; do (: </dev/tcp/{address}/$p) 2>&- ; done; true"])
    return Expected(
        "port_scan", server, "notice",
        {"events": 30, "ports": 30, "client": link.address(client), "lowest": 2000},
    )  # fmt: skip


@_trouble
def reverse_path(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.reverse_path(server, wire)
    return Expected(
        "reverse_path", server, "warning",
        {"events": burst.sent, "ifname": "wire0", "senders": 20, "daddr": wire.local()},
    )  # fmt: skip


@_trouble
def neighbour(stage: Stage) -> Expected:
    _, client, link = stage.pair(v4="10.77.1.0/24")
    burst = trouble.silent_neighbour(client, link, "10.77.1.77")
    return Expected(
        "neighbour", client, "warning",
        {"events": burst.sent, "daddr": "10.77.1.77", "ifname": link.device(client),
         "reason": "NEIGH_FAILED", "owner_comm": "chatter", "owner_pid": burst.pid},
    )  # fmt: skip


@_trouble
def queue(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    burst = trouble.short_queue(client, link, link.address(server))
    return Expected(
        "queue_drops", client, "warning",
        {"ifname": link.device(client), "owner_comm": "chatter", "owner_pid": burst.pid},
    )  # fmt: skip


@_trouble
def tun_without_reader(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.unread_tun(server, wire)
    return Expected("device_drops", server, "warning", {"device": "wire0", "some_unsent": True})


@_trouble
def small_buffer(stage: Stage) -> Expected:
    server, wire = stage.wired()
    crammed = trouble.small_receive_buffer(server, wire)
    return Expected(
        "tcp_receive_buffer", server, "warning",
        {"port": crammed.local.port, "owner_comm": crammed.comm, "owner_pid": crammed.pid,
         "rcvbuf": 8192},
    )  # fmt: skip


@_trouble
def memory(stage: Stage) -> Expected:
    server, wire = stage.wired()
    trouble.small_receive_buffer(server, wire)
    return Expected("memory_pressure", server, "notice", beside=("tcp_receive_buffer",))


@_trouble
def busy(stage: Stage) -> Expected:
    server, wire = stage.wired()
    crammed = trouble.busy_socket(server, wire)
    return Expected(
        "socket_backlog", server, "warning",
        {"port": crammed.local.port, "owner_comm": crammed.comm, "owner_pid": crammed.pid},
    )  # fmt: skip


@_trouble
def scaling_off(stage: Stage) -> Expected:
    server = stage.host_with(ipv4_tcp_window_scaling=0)
    return Expected("window_scaling_off", server, "warning", {"value": "0"})


@_trouble
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


@_trouble
def scaling_lost(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    server.sysctl("net.ipv4.tcp_window_scaling", 0)
    trouble.lossy_transfer(server, client, link.address(server), size=1_000_000)
    return Expected(
        "window_scaling_lost", client, "info", {"connections": 1, "peer": link.address(server)},
        beside=("window_scaling_off", "firewall", "retransmits_dropped_here"),
    )  # fmt: skip


@_trouble
def slow_reader(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    slow = trouble.slow_tcp_reader(server, client, link.address(server), pauses=3, pause_s=2.0)
    return Expected(
        "slow_reader", client, "warning",
        {"connections": 1, "peer": link.address(server), "port": slow.server.port,
         "owner_pid": slow.client_pid, "reader_pid": slow.server_pid, "reader_comm": "reader"},
    )  # fmt: skip


@_trouble
def zero_window(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    trouble.slow_tcp_reader(server, client, link.address(server), pauses=1, pause_s=0.5)
    return Expected("zero_window", client, "info", {"waits": True})


@_trouble
def resets_by_a_close(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    for _ in range(12):
        trouble.reset_connection(server, client, link.address(server), cause="unread")
    return Expected(
        "resets_sent", server, "notice",
        {"events": 12, "reason": "TCP_ABORT_ON_CLOSE", "unread": True, "owner_comm": "resetter"},
    )  # fmt: skip


@_trouble
def resets_from_outside(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    for _ in range(12):
        trouble.reset_connection(server, client, link.address(server), cause="linger")
    return Expected("resets_received", client, "notice", {"events": 12, "owner_comm": "cut-off"})


@_trouble
def no_route(stage: Stage) -> Expected:
    server, wire = stage.wired()
    burst = trouble.not_for_us(wire)
    return Expected("no_route", server, "warning", {"events": burst.sent, "daddr": "203.0.113.9"})


@_trouble
def too_large(stage: Stage) -> Expected:
    router, wire = stage.wired()
    target = stage.host()
    link = stage.link(router, target)
    burst = trouble.too_large(router, wire, link, target)
    return Expected("too_large", router, "warning", {"events": burst.sent, "length": 1440})


@_trouble
def policy(stage: Stage) -> Expected:
    server, client, link = stage.pair()
    burst = trouble.socket_filter(server, client, link.address(server))
    return Expected(
        "policy", server, "notice",
        {"events": burst.sent, "reason": "SOCKET_FILTER", "by_socket": True,
         "owner_comm": "picky", "owner_pid": burst.pid},
    )  # fmt: skip


@_trouble
def other(stage: Stage) -> Expected:
    server, wire = stage.wired()
    listener = trouble.start_listener(server, wire.local())
    burst = trouble.stray_acks(wire, listener.local)
    listener.close()
    return Expected("other_drops", server, "notice", {"events": burst.sent, "reason": "TCP_FLAGS"})
