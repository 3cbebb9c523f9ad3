"""The tables that are not event kinds: exact totals, losses, and what explains the events."""

from __future__ import annotations

from .common import OWNER_SOURCE, PROTOCOL
from .schema import Column, Table, by_name, enum8, numbered
from .types import (
    ADDRESS,
    BOOL,
    CGROUP,
    I64,
    KSYM,
    MONO,
    NETNS,
    STRING,
    TEXT16,
    TEXT64,
    U16,
    U32,
    U64,
    WALL,
)  # fmt: skip

LOSS_CAUSE = numbered("loss_cause", "ring_full", "map_full", "sampled", "disk_full", "recursion")

TOTALS = Table(
    "totals",
    "Exact counts made in the kernel, whether or not a row was recorded: what was added to one key "
    "in one interval. Intervals are about a second, and longer where the recorder had to wait for "
    "the processor; keys that did not move have no row.",
    (
        Column("mono_ns", MONO, "end of the interval", "ns"),
        Column("kind", TEXT16, "event table the count belongs to"),
        Column("cause", TEXT64, "why: the reason, kind or event column of that table"),
        Column("location", KSYM, "kernel code; null for kinds that have none", null_if=0),
        Column("netns", NETNS, "network namespace", null_if=0),
        enum8("protocol", PROTOCOL, "IP protocol", null_if=0),
        Column("benign", BOOL, "whether this is part of normal operation"),
        Column("events", U64, "events, or for retransmits segments (of deferred ones: events)"),
        Column("recorded", U64, "of these, how many are in rows (the sum of their weights)"),
        Column("interval_ns", U64, "how long the interval was", "ns", null_if=0),
    ),
    role="series",
)  # fmt: skip

LOSSES = Table(
    "losses",
    "What could not be recorded, per second. No rows means nothing was lost.",
    (
        Column("mono_ns", MONO, "end of the second", "ns"),
        Column("kind", TEXT16, "table that misses the events"),
        enum8(
            "cause",
            LOSS_CAUSE,
            "why they are missing; recursion: the kernel does not run a program "
            "that it has interrupted, so these are in no total either; map_full: there were too "
            "many different ones (16,384) for the totals, which lack these; rows do not; "
            "map_full of connections: "
            "too many were open (131,072), so their rows do not tell how they began, and those "
            "still open at the end have none",
        ),
        Column("events", U64, "how many; for recursion at most, of drops also benign ones"),
    ),
    role="series",
)

COUNTERS = Table(
    "counters",
    "The kernel's own counters of every network namespace, about once a second, and in turn where "
    "that would take too long: a row for each value that changed. The first row of a counter is "
    "what it was when its namespace was first read (0 for a namespace that came later), the last "
    "row what it was at the end; a counter without rows was 0 all the time. A counter of a device "
    "that went ends with a row of 0, and begins with one should the device, or another of its "
    "name, come. `netns.life` has a row "
    "at the begin of the first reading of a namespace and one at that of the last; its value tells "
    "namespaces apart that had the same number one after the other.",
    (
        Column("mono_ns", MONO, "when it had been read", "ns"),
        Column("netns", NETNS, "network namespace; null for counters of the whole host", null_if=0),
        Column("device", TEXT16, "network device, for link.* and qdisc.*"),
        Column(
            "name",
            TEXT64,
            "group and counter: TcpExt, IpExt, Tcp, Ip, Icmp, Udp, … as in /proc/net/netstat, snmp "
            "and snmp6; conntrack, softnet, link (/proc/net/dev), qdisc (root and ingress)",
        ),
        Column("value", I64, "value since the namespace, device or host came up"),
    ),
    role="series",
    cluster=("netns", "name", "device"),
)

LISTENERS = Table(
    "listeners",
    "Every listening TCP socket of all namespaces, sampled about once a second: a row for each "
    "that changed, and one for each at the first and last sample.",
    (
        Column("mono_ns", MONO, "end of the sampled second", "ns"),
        Column("laddr", ADDRESS, "address it listens on, all zero for any"),
        Column("inode", U64, "inode number of the socket, as /proc/PID/fd shows it", null_if=0),
        Column("cgroup_id", CGROUP, "control group of the socket", null_if=0),
        Column("netns", NETNS, "network namespace", null_if=0),
        Column("owner_pid", U32, "process that owns it; null when unknown", null_if=0),
        Column("owner_comm", TEXT16, "name of that process"),
        Column("accept_queue", U32, "connections waiting for accept", "connections"),
        Column("accept_queue_peak", U32, "the most that waited at a time since the sample before, "
               "seen when connections were queued", "connections"),
        Column("backlog", U32, "limit of the accept queue; one more than this fits", "connections"),
        Column("syn_queue", U32, "connections waiting for the final ACK", "connections"),
        Column("sk_drops", U32, "packets this socket dropped since it was made (sock.sk_drops)"),
        Column("lport", U16, "port it listens on"),
        enum8("owner_source", OWNER_SOURCE, "how the owner was found, or none"),
        Column("open", BOOL, "false in the row that says that the socket is gone"),
    ),
    role="series",
    cluster=("netns", "laddr", "lport", "inode"),
)  # fmt: skip

PROCESSES = Table(
    "processes",
    "Processes that own a recorded socket or were seen as a command's parent. An id has several "
    "rows when it was given to another process or its process ran another program: `started` and "
    "`seen` tell them apart.",
    (
        Column("pid", U32, "process id in the initial namespace"),
        Column("started", WALL, "when the process started"),
        Column("comm", STRING, "name"),
        Column("exe", STRING, "path of its program; null when it could not be read"),
        Column("ppid", U32, "parent"),
        Column("uid", U32, "user id"),
        Column("cgroup", STRING, "path of its control group"),
        Column("seen", WALL, "when this was read"),
    ),
    role="dictionary",
)

CGROUPS = Table(
    "cgroups",
    "Control groups of recorded sockets.",
    (
        Column(
            "id",
            I64,
            "id, the inode number of its folder; negative for a group of version 1, "
            "which has no id",
        ),
        Column("path", STRING, "path below the cgroup mount"),
        Column("container", STRING, "container or unit that the path names"),
        Column("runtime", STRING, "what made it: docker, containerd, crio, podman, lxc, systemd"),
        Column(
            "name",
            STRING,
            "what the runtime calls the container, from its own files; in "
            "Kubernetes namespace/pod/container; null when none tells",
        ),
        Column("pod", STRING, "uid of the Kubernetes pod that the path names"),
        Column(
            "source",
            STRING,
            "what told the group: socket, or where that tells none (version "
            "1 of cgroups) process, the one that owns it",
        ),
    ),
    role="dictionary",
)

NETNS_NAMES = Table(
    "netns",
    "Network namespaces. The kernel gives the number of one that is gone to another: then a number "
    "has several rows, and each holds until the next one begins. One without name and process says "
    "from when on nothing is known.",
    (
        Column("inum", I64, "inode number"),
        Column(
            "name",
            STRING,
            "name under /run/netns, `host` for the initial one; where that is none or a number, "
            "the container's or unit's that has a process in it",
        ),
        Column("pid", U32, "a process in it when it was read"),
        Column("since", WALL, "from when on the number means this; null: from the start"),
        Column(
            "source",
            STRING,
            "what gives it the name: ip (/run/netns, so `ip netns` knows it), docker (its folder "
            "of namespaces), host, process (the container or unit of one in it); null without one",
        ),
    ),
    role="dictionary",
)

SYMBOLS = Table(
    "symbols",
    "Functions of the recorded kernel, by address (/proc/kallsyms).",
    (
        Column("address", I64, "start, the 64 bits kept as a signed integer"),
        Column("name", STRING, "function"),
        Column("module", STRING, "module, null for the kernel itself"),
    ),
    role="dictionary",
)

REASONS = Table(
    "reasons",
    "Names of the recorded kernel's numbers, from its BTF.",
    (
        Column("enum", STRING, "the kernel's enum, such as skb_drop_reason"),
        Column("value", I64, "number"),
        Column("name", STRING, "name without its prefix"),
        Column("subsystem", STRING, "core, or the subsystem that registered it"),
    ),
    role="dictionary",
)

SYSCTLS = Table(
    "sysctls",
    "Kernel settings that matter for drops, of every network namespace: as they were when it was "
    "first read, and again when one changed.",
    (
        Column("ts", WALL, "when it was read"),
        Column("netns", NETNS, "network namespace", null_if=0),
        Column("name", STRING, "name with dots"),
        Column("value", STRING, "value as the kernel prints it"),
    ),
    role="dictionary",
)

MARKS = Table(
    "marks",
    "What users wrote into the recording while it ran (droptape-record --mark), one file each; "
    "the manifest does not list them.",
    (
        Column("ts", WALL, "when the mark was set"),
        Column("text", STRING, "what it says"),
        Column("source", STRING, "name of the user who set it"),
    ),
    role="dictionary",
)

TABLES: dict[str, Table] = by_name(
    (
        TOTALS, LOSSES, COUNTERS, LISTENERS, PROCESSES, CGROUPS, NETNS_NAMES, SYMBOLS, REASONS,
        SYSCTLS, MARKS,
    )
)  # fmt: skip
