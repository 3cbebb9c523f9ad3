"""Kernel settings that matter for drops."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache

SYS = "/proc/sys"

NAMES: tuple[str, ...] = (
    "net.core.somaxconn",
    "net.core.rmem_default", "net.core.rmem_max",
    "net.core.wmem_default", "net.core.wmem_max",
    "net.core.optmem_max",
    "net.core.netdev_max_backlog", "net.core.netdev_budget", "net.core.netdev_budget_usecs",
    "net.core.dev_weight",
    "net.core.default_qdisc",
    "net.core.bpf_jit_enable",
    "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_syn_retries", "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_retries1", "net.ipv4.tcp_retries2", "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_sack",
    "net.ipv4.tcp_dsack", "net.ipv4.tcp_recovery", "net.ipv4.tcp_early_retrans",
    "net.ipv4.tcp_frto", "net.ipv4.tcp_ecn", "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_mem",
    "net.ipv4.tcp_moderate_rcvbuf", "net.ipv4.tcp_adv_win_scale", "net.ipv4.tcp_limit_output_bytes",
    "net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_orphans", "net.ipv4.tcp_challenge_ack_limit", "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fastopen", "net.ipv4.tcp_migrate_req",
    "net.ipv4.udp_mem", "net.ipv4.udp_rmem_min", "net.ipv4.udp_wmem_min",
    "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_forward", "net.ipv4.ip_default_ttl", "net.ipv4.ip_no_pmtu_disc",
    "net.ipv4.ipfrag_high_thresh", "net.ipv4.ipfrag_time",
    "net.ipv4.icmp_ratelimit", "net.ipv4.icmp_msgs_per_sec",
    "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_filter",
    "net.ipv4.conf.all.accept_local", "net.ipv4.conf.all.forwarding",
    "net.ipv4.neigh.default.gc_thresh3", "net.ipv4.neigh.default.unres_qlen_bytes",
    "net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.all.forwarding",
    "net.ipv6.ip6frag_high_thresh", "net.ipv6.neigh.default.gc_thresh3",
    "net.ipv6.route.max_size",
    "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_buckets", "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose", "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.bridge.bridge-nf-call-iptables",
    "kernel.kptr_restrict",
)  # fmt: skip
"""Those a kernel does not have are left out of the recording."""

WATCHED: tuple[str, ...] = (
    "net.core.somaxconn", "net.core.rmem_max", "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_sack",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.netfilter.nf_conntrack_max",
)  # fmt: skip
"""Those that are looked at again every few seconds; the others every minute."""

Row = dict[str, object]


def read_sysctls(netns: int, names: Sequence[str] = NAMES, sys: str = SYS) -> list[Row]:
    """Return rows of the sysctls table for the network namespace that the caller is in.

    Args:
        netns: its number.
        names: which to read.
        sys: where /proc/sys is.
    """
    now = time.time_ns()
    rows: list[Row] = []
    for name in names:
        try:
            descriptor = os.open(_path(sys, name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            value = os.read(descriptor, 4096).decode(errors="replace").strip()
        except OSError:
            continue
        finally:
            os.close(descriptor)
        rows.append({"ts": now, "netns": netns, "name": name, "value": value.replace("\t", " ")})
    return rows


@cache
def _path(sys: str, name: str) -> str:
    return f"{sys}/{name.replace('.', '/')}"
