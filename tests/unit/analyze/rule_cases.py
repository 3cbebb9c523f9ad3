"""For each rule a recording that it has to find, at its thresholds and just below them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from droptape.bpf.kinds import all_kinds
from droptape.format.schema import Table
from unit.analyze.make import START, Maker

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]

NETNS = 4026531840
DICTIONARIES = ("sysctls", "netns", "processes", "cgroups")
OWNER: Row = {"owner_pid": 1234, "owner_comm": "auction-server", "netns": NETNS}
FLOW: Row = {"saddr": "10.0.0.7", "daddr": "10.0.0.2", "sport": 51034, "dport": 8080}
SENT: Row = {"saddr": "10.0.0.2", "daddr": "10.0.0.7", "sport": 8080, "dport": 51034}

REASONS = (
    "NOT_DROPPED_YET", "NOT_SPECIFIED", "NO_SOCKET", "NETFILTER_DROP", "TCP_LISTEN_OVERFLOW",
    "SOCKET_RCVBUFF", "SOCKET_BACKLOG", "PROTO_MEM", "TCP_CSUM", "IP_RPFILTER", "NEIGH_FAILED",
    "NEIGH_CREATEFAIL", "QDISC_DROP", "IP_INADDRERRORS", "PKT_TOO_BIG", "TC_INGRESS", "TCP_FLAGS",
    "TCP_RFC7323_PAWS",
)  # fmt: skip
RESETS = (
    "NOT_SPECIFIED", "NO_SOCKET", "TCP_ABORT_ON_CLOSE", "TCP_ABORT_ON_MEMORY",
    "TCP_KEEPALIVE_TIMEOUT",
)  # fmt: skip


def drop(reason: str | None, weight: int = 1, **more: Any) -> Row:
    """Return a drop that stands for `weight`."""
    return {"at": 1, **FLOW, "netns": NETNS, "reason": reason, "weight": weight, **more}


def counter(name: str, added: int, *, device: str = "", start: int = 100) -> list[Row]:
    """Return the rows of a counter that grows by `added`."""
    row = {"netns": NETNS, "name": name, "device": device}
    return [{**row, "at": 0.5, "value": start}, {**row, "at": 10, "value": start + added}]


def sysctl(name: str, value: str) -> Row:
    """Return a setting."""
    return {"ts": START, "netns": NETNS, "name": name, "value": value}


def refused(event: str, weight: int, **more: Any) -> Row:
    """Return refused connections of one client."""
    return {"at": 2, **FLOW, **OWNER, "event": event, "mechanism": "consume_skb", "lport": 8080,
            "backlog": 128, "accept_queue": 129, "weight": weight, **more}  # fmt: skip


def resent(kind: str, segments: int, **more: Any) -> Row:
    """Return segments sent again by the server."""
    return {"at": 3, **SENT, **OWNER, "kind": kind, "segments": segments, "state": "ESTABLISHED",
            "window_scaling": 1, **more}  # fmt: skip


def reset(direction: str, reason: str | None, weight: int, **more: Any) -> Row:
    """Return resets."""
    return {"at": 4, **SENT, **OWNER, "direction": direction, "reason": reason, "weight": weight,
            "state": "ESTABLISHED", **more}  # fmt: skip


def connection(**more: Any) -> Row:
    """Return a connection that this host, as the client, ended."""
    return {"at": 5, **FLOW, **OWNER, "ended": "fin", "role": "client", "established": 1,
            "window_scaling": 1, "duration_us": 4_000_000, "min_rtt_us": 50_000,
            "bytes_acked": 1_000_000, "snd_wnd_max": 60_000, **more}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How a rule answers as a number grows.

    Attributes:
        rule: its id.
        make: the tables of a recording for a number.
        answers: numbers, each with the severity of the finding, or None for no finding.
    """

    rule: str
    make: Callable[[int], Tables]
    answers: tuple[tuple[int, str | None], ...]


def _device(n: int) -> Tables:
    rows = [*counter("link.tx_dropped", n, device="tun0")]
    return {"counters": [*rows, *counter("link.tx_packets", 1000, device="tun0")]}


def _elsewhere(n: int, *, sent: int, kind: str = "FAST", arrived: int = 0) -> Tables:
    counters = [*counter("Tcp.OutSegs", sent), *counter("TcpExt.TCPDSACKRecv", arrived)]
    return {"retransmits": [resent(kind, n)] if n else [], "drops": [], "counters": counters}


def _late(weight: int, **more: Any) -> Row:
    """Return what a server sent to a client that is gone: ACK and PSH."""
    return drop("NO_SOCKET", weight, **{**SENT, "tcp_flags": 24, **more})


def _translated(kind: str, n: int) -> Tables:
    """Return what the server sent again, and a drop of it behind a published port."""
    flow = {**SENT, "saddr": "192.0.2.1", "sport": 80}
    lost = drop("NETFILTER_DROP", **flow, seq=7, tcp_flags=16)
    return {"retransmits": [resent(kind, n, seq=7, length=100)], "drops": [lost]}


CASES = (
    Case("accept_queue", lambda n: {"listen": [refused("accept_queue_full", n)] if n else []},
         ((0, None), (4, "notice"), (5, "warning"), (59, "warning"), (60, "critical"))),
    Case("accept_queue", lambda n: {"listen": [refused("ack_dropped", n)]}, ((5, "warning"),)),
    Case("accept_queue", lambda n: {"listen": [refused("syn_queue_full", n)]}, ((60, None),)),
    Case("syn_queue", lambda n: {"listen": [refused("syn_queue_full", n)] if n else []},
         ((0, None), (4, "notice"), (5, "warning"), (59, "warning"), (60, "critical"))),
    Case("syn_queue", lambda n: {"listen": [refused("accept_queue_full", n)]}, ((60, None),)),
    Case("syn_queue", lambda n: {"listen": [refused("syn_dropped", 60, syn_queue=n)],
                                 "sysctls": [sysctl("net.ipv4.tcp_max_syn_backlog", "256"),
                                             sysctl("net.ipv4.tcp_syncookies", "0")]},
         ((0, None), (127, None), (192, "critical"))),
    Case("syn_unanswered", lambda n: {"listen": [refused("syn_dropped", n)] if n else []},
         ((0, None), (4, "notice"), (5, "warning"), (59, "warning"), (60, "critical"))),
    Case("syn_unanswered", lambda n: {"listen": [refused("syn_dropped", 60, syn_queue=n)],
                                      "sysctls": [sysctl("net.ipv4.tcp_max_syn_backlog", "256"),
                                                  sysctl("net.ipv4.tcp_syncookies", "0")]},
         ((127, "critical"), (192, None))),
    Case("syn_unanswered", lambda n: {"listen": [refused("syn_dropped", 60, syn_queue=n)],
                                      "sysctls": [sysctl("net.ipv4.tcp_max_syn_backlog", "256"),
                                                  sysctl("net.ipv4.tcp_syncookies", "1")]},
         ((192, "critical"),)),
    Case("syn_cookies", lambda n: {"counters": counter("TcpExt.TCPReqQFullDoCookies", n)},
         ((0, None), (1, "notice"), (2999, "notice"), (3000, "warning"))),
    Case("syn_cookies", lambda n: {"counters": counter("TcpExt.TCPReqQFullDoCookies", n),
                                   "sysctls": [sysctl("net.ipv4.tcp_syncookies", "2")]},
         ((3000, "info"),)),
    Case("udp_receive_buffer",
         lambda n: {"drops": [drop("SOCKET_RCVBUFF", n, protocol="UDP")] if n else []},
         ((0, None), (9, "notice"), (10, "warning"), (599, "warning"), (600, "critical"))),
    Case("udp_receive_buffer", lambda n: {"drops": [drop("SOCKET_RCVBUFF", n)]}, ((600, None),)),
    Case("conntrack_full", lambda n: {"counters": counter("conntrack.drop", n)},
         ((0, None), (1, "critical"))),
    Case("conntrack_full", lambda n: {"counters": counter("conntrack.early_drop", n)},
         ((0, None), (1, "warning"))),
    Case("conntrack_full",
         lambda n: {"counters": [*counter("conntrack.count", n, start=0),
                                 *counter("conntrack.max", 0, start=1000)]},
         ((899, None), (900, "warning"))),
    Case("firewall",
         lambda n: {"drops": [drop("NETFILTER_DROP", n, tcp_flags=16, path="input")] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("firewall", lambda n: {"drops": [drop("NETFILTER_DROP", n, tcp_flags=2, path="input")]},
         ((1000, "notice"),)),
    Case("firewall",
         lambda n: {"drops": [drop("NETFILTER_DROP", n, tcp_flags=2, path="input", **OWNER)]},
         ((9, "notice"), (10, "warning"))),
    Case("firewall", lambda n: {"drops": [drop("NETFILTER_DROP", n, tcp_flags=2, path="output")]},
         ((9, "notice"), (10, "warning"))),
    Case("retransmits_dropped_here",
         lambda n: {"retransmits": [resent("FAST", n)], "drops": [drop("NETFILTER_DROP")]},
         ((59, "notice"), (60, "warning"))),
    Case("retransmits_dropped_here",
         lambda n: {"retransmits": [resent("FAST", n)], "drops": [drop("NETFILTER_DROP", sport=9)]},
         ((60, None),)),
    Case("retransmits_dropped_here",
         lambda n: {"retransmits": [resent("FAST", n)], "drops": [drop("TCP_RFC7323_PAWS")]},
         ((60, None),)),
    Case("retransmits_dropped_here", lambda n: _translated("FAST", n), ((60, "warning"),)),
    Case("retransmits_lost_elsewhere", lambda n: _translated("FAST", n), ((600, None),)),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=6000),
         ((0, None), (9, "info"), (10, "notice"), (59, "notice"), (60, "warning"))),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=6001), ((60, "notice"),)),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=12000),
         ((599, "warning"), (600, "critical"))),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=12001), ((600, "warning"),)),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=10**6, kind="RTO"),
         ((59, "notice"), (60, "warning"))),
    Case("retransmits_lost_elsewhere", lambda n: _elsewhere(n, sent=6000, arrived=n),
         ((600, "notice"),)),
    Case("retransmits_lost_elsewhere",
         lambda n: {"retransmits": [resent("FAST", n)], "drops": [drop("NETFILTER_DROP")]},
         ((600, None),)),
    Case("connect_timeouts",
         lambda n: {"retransmits": [resent("SYN", n)] if n else [], "drops": []},
         ((0, None), (2, "notice"), (3, "warning"))),
    Case("connect_timeouts", lambda n: {"retransmits": [resent("RTO", n)], "drops": []},
         ((3, None),)),
    Case("handshakes_unfinished", lambda n: {"retransmits": [resent("SYNACK", n)] if n else []},
         ((0, None), (29, "info"), (30, "notice"))),
    Case("bad_checksums", lambda n: {"drops": [drop("TCP_CSUM", n)] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("closed_port", lambda n: {"drops": [drop("NO_SOCKET", n)] if n else []},
         ((0, None), (59, "notice"), (60, "warning"))),
    Case("closed_port", lambda n: {"drops": [drop("NO_SOCKET", n, state="LISTEN")]},
         ((60, None),)),
    Case("closed_port", lambda n: {"drops": [drop("NO_SOCKET", n, benign=1)]}, ((60, None),)),
    Case("closed_port",
         lambda n: {"drops": [drop("NO_SOCKET", 60, dport=9000 + i) for i in range(n)]},
         ((19, "warning"), (20, None))),
    Case("port_scan", lambda n: {"drops": [drop("NO_SOCKET", dport=9000 + i) for i in range(n)]},
         ((19, None), (20, "notice"))),
    Case("late_answers", lambda n: {"drops": [_late(n)] if n else []},
         ((0, None), (9, "info"), (10, "notice"))),
    Case("late_answers", lambda n: {"drops": [_late(n, tcp_flags=2)]}, ((60, None),)),
    Case("late_answers", lambda n: {"drops": [_late(n, protocol="UDP", tcp_flags=None)]},
         ((60, "notice"),)),
    Case("closed_port", lambda n: {"drops": [_late(n)]}, ((60, None),)),
    Case("closed_port", lambda n: {"drops": [_late(n, protocol="UDP")]}, ((60, None),)),
    Case("closed_port", lambda n: {"drops": [_late(n, tcp_flags=2)]}, ((60, "warning"),)),
    Case("closed_port", lambda n: {"drops": [_late(n, sport=51034)]}, ((60, "warning"),)),
    Case("port_scan", lambda n: {"drops": [_late(1, dport=40000 + i) for i in range(n)]},
         ((60, None),)),
    Case("port_scan",
         lambda n: {"drops": [_late(1, dport=40000 + i, tcp_flags=2) for i in range(n)]},
         ((20, "notice"),)),
    Case("reverse_path", lambda n: {"drops": [drop("IP_RPFILTER", n)] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("neighbour", lambda n: {"drops": [drop("NEIGH_FAILED", n)] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("queue_drops", lambda n: {"drops": [drop("QDISC_DROP", n, ifname="eth0")] if n else []},
         ((0, None), (99, "notice"), (100, "warning"))),
    Case("queue_drops",
         lambda n: {"drops": [drop("QDISC_DROP", 100, ifname="eth0")],
                    "counters": counter("link.tx_packets", n, device="eth0")},
         ((99_900, "warning"), (99_901, "notice"))),
    Case("device_drops", _device, ((0, None), (99, "notice"), (100, "warning"))),
    Case("device_drops",
         lambda n: {"counters": counter("link.rx_dropped", n, device="eth0")}, ((5000, "notice"),)),
    Case("cpu_backlog", lambda n: {"counters": counter("softnet.dropped", n)},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("memory_pressure", lambda n: {"counters": counter("TcpExt.TCPMemoryPressures", n)},
         ((0, None), (1, "warning"))),
    Case("memory_pressure", lambda n: {"counters": counter("TcpExt.RcvPruned", n)},
         ((0, None), (999, "notice"), (1000, "warning"))),
    Case("memory_pressure", lambda n: {"counters": counter("TcpExt.TCPAbortOnMemory", n)},
         ((1, "critical"),)),
    Case("memory_pressure", lambda n: {"counters": counter("Udp.MemErrors", n)}, ((1, "warning"),)),
    Case("tcp_receive_buffer", lambda n: {"drops": [drop("PROTO_MEM", n)] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("socket_backlog", lambda n: {"drops": [drop("SOCKET_BACKLOG", n)] if n else []},
         ((0, None), (9, "notice"), (10, "warning"))),
    Case("window_scaling_off",
         lambda n: {"sysctls": [sysctl("net.ipv4.tcp_window_scaling", str(n))]},
         ((1, None), (0, "warning"))),
    Case("window_scaling_lost",
         lambda n: {"retransmits": [resent("FAST", 1, window_scaling=0, dport=50000 + i)
                                    for i in range(n)]},
         ((0, None), (2, "notice"), (3, "warning"))),
    Case("window_scaling_lost",
         lambda n: {"retransmits": [resent("FAST", 1, window_scaling=0, dport=50000 + i)
                                    for i in range(n)], "connections": [connection()]},
         ((3, "info"),)),
    Case("window_scaling_lost",
         lambda n: {"retransmits": [resent("FAST", 1, window_scaling=0, dport=50000 + i)
                                    for i in range(n)],
                    "sysctls": [sysctl("net.ipv4.tcp_window_scaling", "0")]},
         ((3, None),)),
    Case("window_scaling_refused",
         lambda n: {"connections": [connection(window_scaling=0, sport=50000 + i)
                                    for i in range(n)]},
         ((0, None), (2, "notice"), (3, "warning"))),
    Case("window_scaling_refused",
         lambda n: {"connections": [connection(window_scaling=n) for _ in range(3)]},
         ((1, None), (0, "warning"))),
    Case("zero_window", lambda n: {"counters": counter("TcpExt.TCPWinProbe", n)},
         ((0, None), (4, "info"), (5, "warning"))),
    Case("zero_window", lambda n: {"counters": counter("TcpExt.TCPToZeroWindowAdv", n)},
         ((999, "info"), (1000, "warning"))),
    Case("zero_window", lambda n: {"counters": counter("TcpExt.TCPWinProbe", n),
                                   "connections": [connection()]}, ((5, "info"),)),
    Case("slow_reader",
         lambda n: {"connections": [connection(zero_window_probes=n, rwnd_limited_us=1_000_000)]},
         ((0, None), (4, "notice"), (5, "warning"))),
    Case("slow_reader",
         lambda n: {"connections": [connection(zero_window_probes=5, rwnd_limited_us=n)]},
         ((999_999, "notice"), (1_000_000, "warning"))),
    Case("resets_sent",
         lambda n: {"resets": [reset("sent", "TCP_ABORT_ON_CLOSE", n)] if n else []},
         ((0, None), (9, "info"), (10, "notice"), (100_000, "notice"))),
    Case("resets_sent", lambda n: {"resets": [reset("sent", "TCP_KEEPALIVE_TIMEOUT", n)]},
         ((4, "info"), (5, "warning"))),
    Case("resets_sent", lambda n: {"resets": [reset("sent", "TCP_ABORT_ON_MEMORY", n)]},
         ((1, "critical"),)),
    Case("resets_sent", lambda n: {"resets": [reset("received", None, n)]}, ((100, None),)),
    Case("resets_received", lambda n: {"resets": [reset("received", None, n)] if n else []},
         ((0, None), (9, "info"), (10, "notice"))),
    Case("connects_refused",
         lambda n: {"resets": [reset("received", None, n, state="SYN_SENT")], "drops": []},
         ((19, "notice"), (20, "warning"))),
    Case("connects_refused",
         lambda n: {"resets": [reset("received", None, n, state="SYN_SENT")],
                    "drops": [drop("NO_SOCKET")]}, ((20, None),)),
    Case("no_route", lambda n: {"drops": [drop("IP_INADDRERRORS", n)] if n else []},
         ((0, None), (59, "notice"), (60, "warning"))),
    Case("no_route", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x7008)]},
         ((59, "notice"), (60, "warning"))),
    Case("no_route", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x1008)]},
         ((60, None),)),
    Case("neighbour", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x8008)]},
         ((9, "notice"), (10, "warning"))),
    Case("neighbour", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x1008)]},
         ((10, None),)),
    Case("too_large", lambda n: {"drops": [drop("PKT_TOO_BIG", n)] if n else []},
         ((0, None), (59, "notice"), (60, "warning"))),
    Case("policy", lambda n: {"drops": [drop("TC_INGRESS", n, **OWNER)] if n else []},
         ((0, None), (59, "notice"), (60, "warning"))),
    Case("policy", lambda n: {"drops": [drop("TC_INGRESS", n)]}, ((60, "notice"),)),
    Case("policy", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x5008, **OWNER)]},
         ((59, "notice"), (60, "warning"))),
    Case("policy", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x1008)]}, ((60, None),)),
    Case("other_drops", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x5008)]},
         ((10, None),)),
    Case("other_drops", lambda n: {"drops": [drop("NOT_SPECIFIED", n, location=0x1008)]},
         ((10, "notice"),)),
    Case("other_drops", lambda n: {"drops": [drop("TCP_FLAGS", n)] if n else []},
         ((0, None), (9, "info"), (10, "notice"))),
    Case("other_drops", lambda n: {"drops": [drop("NETFILTER_DROP", n)]}, ((10, None),)),
)  # fmt: skip


def make_recording(
    path: Path,
    tables: Tables,
    *,
    reasons: Sequence[str] = REASONS,
    names: Sequence[tuple[Any, ...]] = (),
    without: Sequence[str] = (),
    declared: Mapping[str, Table] | None = None,
    **changes: Any,
) -> Path:
    """Write a recording.

    Args:
        path: where to.
        tables: the rows; others get none.
        reasons: drop reasons that its kernel knows.
        names: namespaces: name, number, a process in it, perhaps what gave it the name.
        without: tables that it does not have at all.
        declared: tables as another version declared them.
        changes: to its manifest.
    """
    maker = Maker(path)
    enums = {
        "skb_drop_reason": dict(enumerate(reasons)),
        "sk_rst_reason": dict(enumerate(RESETS)),
    }
    kinds = {name: kind.table.with_enums(enums) for name, kind in all_kinds().items()}
    maker.tables.update(kinds)
    maker.tables.update(declared or {})
    for table in without:
        del maker.tables[table]
    filled = {"counters": counter("netns.life", 0, start=1), **tables}
    for table, rows in filled.items():
        if table in without:
            continue
        if table in DICTIONARIES:
            maker.dictionary(table, list(rows))
        else:
            maker.seal(table, rows)
    if "sysctls" not in tables:
        maker.dictionary("sysctls", [sysctl("net.core.somaxconn", "4096")])
    columns = ("name", "inum", "pid", "source")
    spaces = [("host", NETNS, 1, "host"), *names]
    maker.dictionary("netns", [dict(zip(columns, space, strict=False)) for space in spaces])
    maker.symbols()
    return maker.finish(**changes)
