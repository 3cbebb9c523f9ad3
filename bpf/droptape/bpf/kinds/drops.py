"""Packet drops: the declaration. The program is drops.c."""

from __future__ import annotations

from droptape.bpf.kind import EventKind, Fewer, Hook, RawTracepoint
from droptape.format.common import COMMON
from droptape.format.schema import Column, Enum, Table, enum8, enum32, numbered
from droptape.format.types import BOOL, KSYM, TCP_FLAGS, U32

DROP_REASON = Enum("drop_reason", kernel="skb_drop_reason")
PACKET_PATH = numbered("packet_path", "unrouted", "input", "forward", "output")

KIND = EventKind(
    table=Table(
        "drops",
        "Packets that the kernel dropped, of every protocol (skb:kfree_skb). Drops that are part "
        "of normal operation are counted in `totals`; their rows are recorded only on request.",
        (
            *COMMON,
            Column("location", KSYM, "kernel code that freed the packet"),
            enum32(
                "reason",
                DROP_REASON,
                "the kernel's drop reason (enum skb_drop_reason, since Linux 5.17) by name, "
                "subsystems included; null on kernels that give none",
                null_if=0xFFFFFFFF,
            ),
            Column("length", U32, "length of the packet (sk_buff.len)", "bytes"),
            Column("seq", U32, "TCP sequence number; 0 without a TCP header"),
            Column("ack", U32, "TCP acknowledgement number; 0 without a TCP header"),
            Column("rcvbuf", U32, "limit of the socket's receive buffer (sock.sk_rcvbuf), twice "
                   "what the program asked for; null without a socket", "bytes", null_if=0),
            Column("tcp_flags", TCP_FLAGS, "TCP flags of the packet"),
            enum8(
                "path",
                PACKET_PATH,
                "where the packet was on its way, by its route: input: for this host; forward: for "
                "another; output: sent by this host; null: it has no route yet, or no longer",
                null_if=0,
            ),
            Column("benign", BOOL, "whether drops like this happen on healthy systems"),
        ),
        cause="reason",
        noun="drop",
        cluster=("location", "saddr", "daddr", "sport", "dport"),
    ),
    hooks=(
        Hook(
            "kfree_skb",
            (RawTracepoint("kfree_skb", "drops_kfree_skb"),),
            lacks=(
                Fewer("kfree_skb", 3, "no reasons: the location alone tells why"),
                Fewer("kfree_skb", 4, "no receiving socket: received packets have owners only by "
                      "port or flow"),
            ),
            interrupting=RawTracepoint("kfree_skb", "drops_interrupting"),
            each_run_an_event=True,
        ),
    ),
    ring_bytes=8 << 20,
)  # fmt: skip
