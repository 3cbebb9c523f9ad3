"""The columns that every event table starts with."""

from __future__ import annotations

from .schema import Column, Enum, enum8, numbered
from .types import ADDRESS, BOOL, CGROUP, MONO, NETNS, TEXT16, U8, U16, U32, U64

TCP_STATE = Enum(
    "tcp_state",
    {
        1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2",
        6: "TIME_WAIT", 7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING",
        12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
    },
)  # fmt: skip
"""TCP states, fixed by the kernel's interface (include/net/tcp_states.h)."""

PROTOCOL = Enum(
    "protocol",
    {
        1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPV6", 47: "GRE", 50: "ESP",
        58: "ICMPV6", 132: "SCTP", 136: "UDPLITE",
    },
)  # fmt: skip
"""IP protocol numbers as IANA assigns them; others stay numbers."""

OWNER_SOURCE = numbered(
    "owner_source",
    "none",
    "connect",
    "listen",
    "listener",
    "open",
    "close",
    "flow",
    "port",
    "io",
    "socket",
)
"""How an owner was found. bpf/droptape/bpf/core/owner.h holds the rules, in order."""

COMMON: tuple[Column, ...] = (
    Column("mono_ns", MONO, "when the kernel reported the event", "ns"),
    Column("saddr", ADDRESS, "source address of the packet"),
    Column("daddr", ADDRESS, "destination address of the packet"),
    Column("cgroup_id", CGROUP, "control group of the socket (sock.sk_cgrp_data)", null_if=0),
    Column(
        "inode",
        U64,
        "inode number of the socket, as /proc/PID/fd shows it; null without a socket that a "
        "process has open",
        null_if=0,
    ),
    Column(
        "netns",
        NETNS,
        "network namespace of the socket, else of the device; of what was dropped after it had "
        "left the sender's, that where it was",
        null_if=0,
    ),
    Column(
        "owner_pid",
        U32,
        "process that owns the socket; null when unknown, never the process that happened to run",
        null_if=0,
    ),
    Column("owner_comm", TEXT16, "name of that process when the socket was last seen with it"),
    Column("context_pid", U32, "process that was on the CPU: not the owner, 0 is the idle task"),
    Column("context_comm", TEXT16, "name of the task that was on the CPU"),
    Column("ifname", TEXT16, "network device of the packet"),
    Column("uid", U32, "user of the socket (sock.sk_uid)", null_if=0xFFFFFFFF),
    Column("weight", U32, "events this row stands for; 1 where nothing was sampled"),
    Column("sport", U16, "source port; 0 when there is none"),
    Column("dport", U16, "destination port; 0 when there is none"),
    Column("cpu", U16, "processor"),
    Column("ip_version", U8, "4 or 6; null when the packet is not IP", null_if=0),
    enum8("protocol", PROTOCOL, "IP protocol", null_if=0),
    enum8("state", TCP_STATE, "state of the TCP socket; null without one", null_if=0),
    enum8(
        "owner_source",
        OWNER_SOURCE,
        "how the owner was found: connect, listen, socket: it called that; open: it has the "
        "socket open; close: it closed it last; listener: its listener took the connection; "
        "flow: it had the connection that ended; port: it listens where the packet went; "
        "io: it sent or received last; none: unknown",
    ),
    Column("owner_shared", BOOL, "whether other processes have the socket open too"),
)
