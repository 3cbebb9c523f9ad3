"""TCP connections, one row each at its end: the declaration. The program is connections.c."""

from __future__ import annotations

import time
from typing import cast

from droptape.bpf.kind import EventKind, Hook, RawTracepoint, Sweep
from droptape.format.common import COMMON
from droptape.format.decode import Records
from droptape.format.schema import Column, Enum, Table, enum8, numbered
from droptape.format.types import BOOL, I32, TEXT16, U8, U32, U64

_U8, _U32, _U64 = 0xFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF

CONNECTION_ROLE = numbered("connection_role", "unknown", "client", "server")
CONNECTION_END = numbered(
    "connection_end", "unknown", "open", "fin", "reset", "timed_out", "refused", "abandoned",
    "not_sent", "error",
)  # fmt: skip
CONNECTION_SIDE = numbered("connection_side", "none", "local", "remote")
CA_STATE = Enum("tcp_ca_state", {0: "Open", 1: "Disorder", 2: "CWR", 3: "Recovery", 4: "Loss"})
"""States of congestion control, fixed by the kernel's interface (include/uapi/linux/tcp.h)."""

# Not values of a column, but marks that `settle` takes out; connections_row.h has them too.
_RESET_FOLLOWED = _UNDECIDED = 0xFF
_NONE, _LOCAL, _REMOTE = range(3)
_SETTLED_NS = 1_000_000  # RESET_FOLLOWS_NS in connections.c


def settle(records: Records) -> Records:
    """Say who sent the reset, and take out the notes that tell it (connections_reset_sent).

    A note follows its row within microseconds, and in the ring within a few records. A row that is
    too young for its note to be here already stays undecided, which is null.
    """
    notes = records["ended"] == _RESET_FOLLOWED
    undecided = records["reset_by"] == _UNDECIDED
    if not notes.any() and not undecided.any():
        return records
    told = {(int(r["mono_ns"]), int(r["cpu"])) for r in records[notes]}
    rows = cast(Records, records[~notes])
    now = time.monotonic_ns()
    for row in rows:
        if (int(row["mono_ns"]), int(row["cpu"])) in told:
            row["reset_by"] = _LOCAL
        elif row["reset_by"] == _UNDECIDED:
            row["reset_by"] = _REMOTE if now - int(row["mono_ns"]) > _SETTLED_NS else _NONE
    return rows


KIND = EventKind(
    table=Table(
        "connections",
        "TCP connections, one row at the end of each, and one for each that is still open at the "
        "end of the recording; a connection within this host has one row per side. `ts` is the "
        "end. What the kernel counts per connection agrees with TCP_INFO (`ss -ti`). A connection "
        "ends when its socket leaves: what comes after, in TIME_WAIT, is not part of it. A server "
        "has a row from the final ACK on: half-open requests are in `listen` and `retransmits`. "
        "Not seen: connections older than the recording that no process has open (not accepted, "
        "or closed and waiting) and on which nothing happens.",
        (
            *COMMON,
            enum8(
                "ended",
                CONNECTION_END,
                "open: still open at the end of the recording; fin: closed in order, from this "
                "side's view; reset: see `reset_by`; timed_out: no answer, when `established` is "
                "false to the SYN; refused: the SYN was answered by a reset; abandoned: closed "
                "here before the SYN was answered; not_sent: no SYN could be sent, for instance "
                "for lack of a port; error: see `sk_err`; unknown: dropped without a word, or "
                "frozen by TCP_REPAIR",
            ),
            enum8(
                "closed_by",
                CONNECTION_SIDE,
                "who sent the first FIN, or without one the reset; null when neither came",
                null_if=0,
            ),
            enum8(
                "reset_by",
                CONNECTION_SIDE,
                "who sent a reset; null without one. After a FIN of ours it is local when data "
                "came that nobody would read; null also in the rare case that this is not decided",
                null_if=0,
            ),
            enum8(
                "role",
                CONNECTION_ROLE,
                "client: it connected; server: it came from a listener; null when the connection "
                "is older than the recording and the socket does not tell",
                null_if=0,
            ),
            Column("open", BOOL, "still open at the end of the recording"),
            Column("established", BOOL, "whether it ever was ESTABLISHED"),
            Column("accepted", BOOL, "whether a process took it from the accept queue; null for "
                   "clients", null_if=_U8),
            Column("window_scaling", BOOL, "whether window scaling was negotiated; null when never "
                   "established", null_if=_U8),
            Column("snd_wscale", U8, "the peer's window scale, a shift", null_if=_U8),
            Column("rcv_wscale", U8, "our window scale, a shift", null_if=_U8),
            enum8("ca_state", CA_STATE, "state of congestion control"),
            Column("sk_err", I32, "error the socket had when it closed, 0 for none", "errno"),
            Column("start_mono_ns", U64, "CLOCK_MONOTONIC of the start: connect(), for a server "
                   "the final ACK; null when that was before the recorder", "ns", null_if=0),
            Column("duration_us", U64, "from the start to the end; null when the start is", "us",
                   null_if=_U64),
            Column("handshake_us", U32, "from connect() to ESTABLISHED, repeated SYNs included; "
                   "null for servers", "us", null_if=_U32),
            Column("bytes_sent", U64, "payload sent, each retransmit again", "bytes", null_if=_U64),
            Column("bytes_retrans", U64, "of these, sent again", "bytes", null_if=_U64),
            Column("bytes_acked", U64, "acknowledged by the peer; a client's SYN and a FIN count "
                   "one", "bytes"),
            Column("bytes_received", U64, "received in order; the peer's FIN counts one", "bytes"),
            Column("segs_out", U32, "segments sent, ACKs included", "segments"),
            Column("segs_in", U32, "segments received", "segments"),
            Column("data_segs_out", U32, "of those sent, with data", "segments"),
            Column("data_segs_in", U32, "of those received, with data", "segments"),
            Column("total_retrans", U32, "segments sent again", "segments"),
            Column("srtt_us", U32, "smoothed round-trip time; null without one", "us", null_if=0),
            Column("min_rtt_us", U32, "smallest round-trip time of the last minutes "
                   "(net.ipv4.tcp_min_rtt_wlen); null without one", "us", null_if=_U32),
            Column("cwnd", U32, "congestion window", "segments"),
            Column("mss", U32, "segment size", "bytes"),
            Column("congestion", TEXT16, "congestion control"),
            Column("busy_us", U64, "time with data to send or in flight, in ticks of the kernel",
                   "us"),
            Column("rwnd_limited_us", U64, "of these, held up by the peer's window", "us"),
            Column("sndbuf_limited_us", U64, "of these, held up by our send buffer", "us"),
            Column("snd_wnd", U32, "window the peer offered last", "bytes", null_if=_U32),
            Column("snd_wnd_min", U32, "smallest window the peer offered, as of every segment that "
                   "came while ESTABLISHED and of every change of state; for a connection older "
                   "than the recording since it was first seen, and so the next four", "bytes",
                   null_if=_U32),
            Column("snd_wnd_max", U32, "largest window the peer offered (max_window), always of "
                   "the whole connection", "bytes", null_if=_U32),
            Column("snd_zero_windows", U32, "times the peer's window became 0"),
            Column("zero_window_probes", U32, "probes of a window too small to send"),
            Column("rcv_wnd", U32, "window we offered last, as announced: TCP_INFO "
                   "has what the kernel wanted to offer, even where the scale cannot say it",
                   "bytes", null_if=_U32),
            Column("rcv_wnd_min", U32, "smallest window we offered, as of every read by a process "
                   "and every change of state: reading is what opens it", "bytes", null_if=_U32),
            Column("rcv_wnd_max", U32, "largest window we offered, as of the same moments", "bytes",
                   null_if=_U32),
            Column("rcv_zero_windows", U32, "times our window became 0"),
        ),
        cause="ended",
        noun="connection",
        cluster=("saddr", "daddr", "sport", "dport"),
    ),
    hooks=(
        Hook(
            "inet_sock_set_state",
            (RawTracepoint("inet_sock_set_state", "connections_state"),),
            interrupting=RawTracepoint("inet_sock_set_state", "connections_interrupting"),
            each_run_an_event=True,
        ),
        Hook("tcp_probe", (RawTracepoint("tcp_probe", "connections_probe"),)),
        Hook("tcp_rcv_space_adjust", (RawTracepoint("tcp_rcv_space_adjust", "connections_read"),)),
        Hook(
            "tcp_receive_reset", (RawTracepoint("tcp_receive_reset", "connections_reset_received"),)
        ),
        Hook("tcp_send_reset", (RawTracepoint("tcp_send_reset", "connections_reset_sent"),)),
    ),
    ring_bytes=8 << 20,
    default=False,
    first=Sweep("owners", "connections_first"),
    last=Sweep("connections", "connections_last"),
    settle=settle,
)  # fmt: skip
