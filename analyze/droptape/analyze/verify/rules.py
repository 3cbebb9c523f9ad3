"""What the kernel counts, and which events must add up to it. All rules are here.

`where` is SQL over the columns that every event has for this purpose: `cause` (text), `protocol`
(text), `function` (kernel function of the location), and `failed` (the kernel reported an error).
Amounts are as in the totals: weights, for retransmits segments (deferred ones: weights).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Counters whose sum, in one namespace, is the number of certain events.

    Attributes:
        counters: names in the table `counters`. The first is the rule's name.
        kind: the event table.
        where: which of its events.
        reasons: drop reasons that the kernel must have, else the rule cannot be checked.
        more: why the kernel may count more than was recorded; "" when it may not.
        less: why it may count less.
    """

    counters: tuple[str, ...]
    kind: str
    where: str
    reasons: tuple[str, ...] = ()
    more: str = ""
    less: str = ""

    @property
    def name(self) -> str:
        """What the rule is called: its counters."""
        return " + ".join(self.counters)


def _dropped(reason: str, protocol: str, *counters: str, more: str = "", less: str = "") -> Rule:
    where = f"cause = '{reason}' AND protocol = '{protocol}'"
    return Rule(counters, "drops", where, (reason,), more, less)


RULES: tuple[Rule, ...] = (
    # tcp_listendrop, in net/ipv4: tcp_conn_request, tcp_v4_syn_recv_sock, cookie_v4_check, and
    # tcp_req_err for an ICMP error about a connection that is half open; the same for IPv6.
    Rule(("TcpExt.ListenDrops",), "listen", "true"),
    Rule(
        ("TcpExt.ListenOverflows",), "listen", "cause IN ('accept_queue_full', 'ack_dropped')",
        less="final ACKs are also refused for want of memory, which is no overflow",
    ),
    Rule(
        ("TcpExt.TCPReqQFullDrop",), "listen", "cause = 'syn_queue_full'",
        more="a SYN that met a full accept queue and a full SYN queue is recorded as the former",
    ),
    # __tcp_retransmit_skb and tcp_rtx_synack.
    Rule(("Tcp.RetransSegs",), "retransmits", "cause <> 'DEFERRED'"),
    Rule(("TcpExt.TCPSynRetrans",), "retransmits", "cause IN ('SYN', 'SYNACK')"),
    # tcp_xmit_retransmit_queue counts after sending, so not what could not be sent.
    Rule(("TcpExt.TCPFastRetrans",), "retransmits", "cause = 'FAST' AND NOT failed"),
    Rule(("TcpExt.TCPSlowStartRetrans",), "retransmits", "cause = 'SLOW_START' AND NOT failed"),
    Rule(
        ("TcpExt.TCPTimeouts",), "retransmits", "cause IN ('RTO', 'SYN')",
        more="timeouts that sent nothing again: SYN-ACKs, connections given up, "
        "segments still in this host's queue",
    ),
    Rule(
        ("TcpExt.TCPLossProbes",), "retransmits", "cause = 'TLP' AND NOT failed",
        more="probes that sent new data, for which there is no tracepoint",
    ),
    # net/ipv4/udp.c and net/ipv6/udp.c.
    _dropped("SOCKET_RCVBUFF", "UDP", "Udp.RcvbufErrors", "Udp6.RcvbufErrors"),
    _dropped("NO_SOCKET", "UDP", "Udp.NoPorts", "Udp6.NoPorts"),
    _dropped(
        "UDP_CSUM", "UDP", "Udp.InCsumErrors", "Udp6.InCsumErrors",
        more="found wrong only when a process read the packet, which gives no reason",
    ),
    _dropped("TCP_CSUM", "TCP", "Tcp.InCsumErrors"),
    _dropped("ICMP_CSUM", "ICMP", "Icmp.InCsumErrors"),
    _dropped("SOCKET_BACKLOG", "TCP", "TcpExt.TCPBacklogDrop"),
    # net/netfilter/nf_conntrack_core.c: dropped on the way back through nf_hook_slow.
    Rule(
        ("conntrack.drop",), "drops", "cause = 'NETFILTER_DROP' AND function = 'nf_hook_slow'",
        ("NETFILTER_DROP",),
        less="iptables rules drop there as well",
    ),
)  # fmt: skip

FILES = {
    "missing": "in the manifest, but not there",
    "changed": "not as it was sealed: its SHA-256 differs from the manifest's",
    "closed": "cannot be looked into",
    "barred": "cannot be read",
    "unreadable": "a page or the footer is damaged",
    "stray": "not a file of the recording: its name, or its number, is that of no segment",
    "extra": "there, but not in the manifest",
    "damaged journal": "does not end with a whole frame, or a frame's checksum is wrong",
}
"""What can be wrong with a file."""

COUNTS = "{different} do not fit the rows: what is answered by them is wrong"
EDGE = "at the first or last reading of the counters, where it cannot be told what came first"
SHORT = "another namespace may have had this number for less than a second, between readings"
REMOVED = "where removed rows end, it cannot be told which event an interval of the totals counts"
LOST = "not recorded, and said so: {causes}"
TOTALS_LOST = "rows of the totals are missing, and the manifest says so: the disk was full"
LOSSES_LOST = "rows of losses are missing, and the manifest has them: the disk was full"
KILLED = "the recorder did not end in order: the totals of its last second are missing"
RUNNING = "still being recorded: the totals come once a second"
READING = "still being recorded: the counters were read a moment after the rows"
PROBE = "not all is seen on this kernel: {note}"
NO_REASON = "this kernel gives no such reason"
DAMAGED = "damaged files cannot be compared with anything"
NOT_SENT = "losses also count rows of segments that could not be sent, which are in no total"
OUTSIDE = "before the first or after the last reading of their namespace's counters"
"""Why a difference is none."""
