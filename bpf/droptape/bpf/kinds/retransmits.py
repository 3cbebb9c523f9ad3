"""TCP retransmits: the declaration. The program is retransmits.c."""

from __future__ import annotations

from droptape.bpf.kind import EventKind, Fewer, Hook, RawTracepoint
from droptape.format.common import COMMON
from droptape.format.schema import Column, Table, enum8, numbered
from droptape.format.types import BOOL, I32, TCP_FLAGS, U8, U16, U32

RETRANSMIT_KIND = numbered(
    "retransmit_kind",
    "UNKNOWN",
    "SYN",
    "SYNACK",
    "RTO",
    "FAST",
    "TLP",
    "SLOW_START",
    "OTHER",
    "DEFERRED",
)

KIND = EventKind(
    table=Table(
        "retransmits",
        "TCP segments sent again (tcp:tcp_retransmit_skb) and SYN-ACKs sent again "
        "(tcp:tcp_retransmit_synack). The sum of `segments` times `weight` equals RetransSegs.",
        (
            *COMMON,
            enum8(
                "kind",
                RETRANSMIT_KIND,
                "SYN and SYNACK: opening; RTO: timer; FAST: fast recovery; TLP: tail-loss probe; "
                "SLOW_START: more of the queue after a timeout; DEFERRED: not sent, because the "
                "original is still in this host's queue: part of normal operation, recorded only "
                "on request",
            ),
            Column("tcp_flags", TCP_FLAGS, "flags of the segment"),
            Column("attempt", U8, "timeouts in a row for this connection (icsk_retransmits)"),
            Column("window_scaling", BOOL, "whether window scaling was negotiated"),
            Column("snd_wscale", U8, "the peer's window scale, a shift"),
            Column("rcv_wscale", U8, "our window scale, a shift"),
            Column("segments", U16, "segments sent again (tcp_skb_cb.tcp_gso_segs); 0 when "
                   "the kernel gave up before it counted them, see `error`"),
            Column("error", I32, "0, or why the segment was not sent, as a negative errno; "
                   "0 also on kernels that do not tell", "errno"),
            Column("length", U32, "payload", "bytes"),
            Column("seq", U32, "first sequence number"),
            Column("srtt_us", U32, "smoothed round-trip time", "us"),
            Column("rto_us", U32, "retransmission timeout", "us"),
            Column("cwnd", U32, "congestion window", "segments"),
            Column("ssthresh", U32, "slow-start threshold", "segments"),
            Column("snd_wnd", U32, "window the peer offers", "bytes"),
            Column("rcv_wnd", U32, "window we offer", "bytes"),
            Column("mss", U32, "segment size", "bytes"),
            Column("packets_out", U32, "segments in flight"),
            Column("retrans_out", U32, "retransmitted segments in flight"),
            Column("lost_out", U32, "segments held to be lost"),
            Column("total_retrans", U32, "retransmits of this connection so far"),
        ),
        cause="kind",
        noun="retransmit",
        cluster=("saddr", "daddr", "sport", "dport"),
    ),
    hooks=(
        Hook(
            "tcp_retransmit_skb",
            (RawTracepoint("tcp_retransmit_skb", "retransmits_skb"),),
            lacks=(Fewer("tcp_retransmit_skb", 3, "segments that could not be sent not shown"),),
            each_run_an_event=True,
        ),
        Hook(
            "tcp_retransmit_synack",
            (RawTracepoint("tcp_retransmit_synack", "retransmits_synack"),),
            each_run_an_event=True,
        ),
    ),
    ring_bytes=4 << 20,
)  # fmt: skip
