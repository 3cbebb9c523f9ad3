"""Refused connections: the declaration. The program is listen.c."""

from __future__ import annotations

from droptape.bpf.kind import EventKind, Fewer, Fexit, Hook, Kretprobe, RawTracepoint
from droptape.format.common import COMMON
from droptape.format.schema import Column, Table, enum8, numbered
from droptape.format.types import ADDRESS, U16, U32

LISTEN_EVENT = numbered(
    "listen_event", "syn_dropped", "accept_queue_full", "syn_queue_full", "ack_dropped",
    "icmp_error",
)  # fmt: skip
LISTEN_MECHANISM = numbered(
    "listen_mechanism", "none", "consume_skb", "kfree_skb", "tcp_conn_request", "tcp_err"
)

KIND = EventKind(
    table=Table(
        "listen",
        "Connections that a listening socket refused, at either stage. The sum of `weight` equals "
        "ListenDrops of the namespace. `saddr` is the client.",
        (
            *COMMON,
            Column("laddr", ADDRESS, "address the socket listens on, all zero for any"),
            enum8(
                "event",
                LISTEN_EVENT,
                "accept_queue_full: a SYN, dropped because the accept queue was full; "
                "syn_queue_full: a SYN, dropped because the SYN queue was full; "
                "syn_dropped: a SYN, dropped for another reason; "
                "ack_dropped: the final ACK, because the accept queue was full; "
                "icmp_error: ended by an ICMP error when it was half open (`saddr` is its client)",
            ),
            enum8("mechanism", LISTEN_MECHANISM, "kernel hook that showed it"),
            Column("lport", U16, "port the socket listens on"),
            Column("backlog", U32, "limit of the accept queue: the smaller of listen's argument "
                   "and net.core.somaxconn (sk_max_ack_backlog)", "connections"),
            Column("accept_queue", U32, "connections waiting for accept", "connections"),
            Column("syn_queue", U32, "connections waiting for the final ACK", "connections"),
        ),
        cause="event",
        noun="refused",
        cluster=("laddr", "lport", "saddr"),
    ),
    hooks=(
        Hook(
            "syn",
            (
                RawTracepoint("consume_skb", "listen_consume_skb"),
                Fexit("tcp_conn_request"),
                Kretprobe("tcp_conn_request", "listen_request_begin", "listen_request_end"),
            ),
        ),
        Hook("icmp_error", (Fexit("tcp_v4_err"),), only_if=Fewer("consume_skb", 2)),
        Hook("icmpv6_error", (Fexit("tcp_v6_err"),), only_if=Fewer("consume_skb", 2)),
        Hook("final_ack", (RawTracepoint("kfree_skb", "listen_kfree_skb"),)),
    ),
    ring_bytes=4 << 20,
)  # fmt: skip
