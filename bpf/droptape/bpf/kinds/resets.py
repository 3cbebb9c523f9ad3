"""TCP resets: the declaration. The program is resets.c."""

from __future__ import annotations

from droptape.bpf.kind import EventKind, Fewer, Fexit, Hook, RawTracepoint
from droptape.format.common import COMMON
from droptape.format.schema import Enum, Table, enum8, enum32, numbered

RESET_DIRECTION = numbered("reset_direction", "sent", "received")
RESET_REASON = Enum("reset_reason", kernel="sk_rst_reason")

KIND = EventKind(
    table=Table(
        "resets",
        "TCP resets that this host sent (tcp:tcp_send_reset) or received (tcp:tcp_receive_reset). "
        "`saddr` is the sender of the reset.",
        (
            *COMMON,
            enum8("direction", RESET_DIRECTION, "sent or received by this host"),
            enum32(
                "reason",
                RESET_REASON,
                "why it was sent (enum sk_rst_reason, since Linux 6.10); null for received ones "
                "and on kernels that give none",
                null_if=0xFFFFFFFF,
            ),
        ),
        cause="direction",
        noun="reset",
        cluster=("saddr", "daddr", "sport", "dport"),
    ),
    hooks=(
        Hook(
            "tcp_send_reset",
            (RawTracepoint("tcp_send_reset", "resets_sent"),),
            lacks=(Fewer("tcp_send_reset", 3, "no reasons"),),
            each_run_an_event=True,
        ),
        Hook(
            "without_socket_4",
            (Fexit("tcp_v4_send_reset"),),
            only_if=Fewer("tcp_send_reset", 3),
            each_run_an_event=True,
        ),
        Hook(
            "without_socket_6",
            (Fexit("tcp_v6_send_reset"),),
            only_if=Fewer("tcp_send_reset", 3),
            each_run_an_event=True,
        ),
        Hook(
            "tcp_receive_reset",
            (RawTracepoint("tcp_receive_reset", "resets_received"),),
            each_run_an_event=True,
        ),
    ),
    ring_bytes=4 << 20,
)
