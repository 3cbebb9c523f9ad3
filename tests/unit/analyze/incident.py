"""The recording most tests ask: one minute of a web server in trouble."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unit.analyze.make import Maker

SERVER: Mapping[str, Any] = {
    "owner_pid": 1234, "owner_comm": "auction-server", "owner_source": "listener",
    "cgroup_id": 42, "netns": 4026531840, "ifname": "eth0",
}  # fmt: skip
CLIENT: Mapping[str, Any] = {
    "saddr": "10.0.0.7",
    "daddr": "10.0.0.2",
    "sport": 51034,
    "dport": 8080,
}

OVERFLOW: Mapping[str, Any] = {"reason": "TCP_LISTEN_OVERFLOW", "location": 0x108C}

DROPS: list[dict[str, Any]] = [
    {**CLIENT, **SERVER, "at": 5.5, **OVERFLOW, "tcp_flags": 16},
    {**CLIENT, **SERVER, "at": 6.25, **OVERFLOW, "weight": 3},
    {**CLIENT, "dport": 9, "at": 20, "reason": "NO_SOCKET", "location": 0x1200, "netns": 7},
    {"saddr": "2001:db8::7", "daddr": "2001:db8::2", "ip_version": 6, "sport": 40000, "dport": 443,
     "at": 30.125, "reason": "NETFILTER_DROP", "location": 0x3010},
    {"at": 40, "ip_version": 0, "protocol": None, "reason": "NOT_SPECIFIED", "location": 0x10},
]  # fmt: skip
BENIGN: dict[str, Any] = {"at": 50, "reason": "NOT_SPECIFIED", "location": 0x10, "benign": 1}
RETRANSMITS: list[dict[str, Any]] = [
    {"saddr": "10.0.0.2", "daddr": "10.0.0.7", "sport": 8080, "dport": 51034, **SERVER,
     "at": 10, "kind": "RTO", "segments": 1, "state": "ESTABLISHED"},
    {"saddr": "10.0.0.2", "daddr": "10.0.0.7", "sport": 8080, "dport": 51034, **SERVER,
     "at": 10.5, "kind": "FAST", "segments": 4, "state": "ESTABLISHED"},
]  # fmt: skip
LISTEN: list[dict[str, Any]] = [
    {**CLIENT, **SERVER, "at": 5 + i / 10, "event": "accept_queue_full", "mechanism": "consume_skb",
     "lport": 8080, "backlog": 128, "accept_queue": 129, "sport": 51000 + i}
    for i in range(10)
]  # fmt: skip


def _total(kind: str, cause: str, events: int, **more: Any) -> dict[str, Any]:
    return {"at": 30, "kind": kind, "cause": cause, "events": events, "recorded": events, **more}


TOTALS: list[dict[str, Any]] = [
    _total("drops", "TCP_LISTEN_OVERFLOW", 4, location=0x108C),
    _total("drops", "NO_SOCKET", 7, location=0x1200, recorded=1),
    _total("drops", "NETFILTER_DROP", 1, location=0x3010),
    _total("drops", "NOT_SPECIFIED", 1, location=0x10),
    _total("drops", "NOT_SPECIFIED", 5000, location=0x10, benign=1, recorded=0),
    _total("retransmits", "RTO", 1),
    _total("retransmits", "FAST", 4),
    _total("listen", "accept_queue_full", 10),
]
LOSSES: list[dict[str, Any]] = [{"at": 21, "kind": "drops", "cause": "ring_full", "events": 6}]


def explain(maker: Maker) -> None:
    """Write the dictionaries."""
    maker.symbols()
    maker.dictionary(
        "cgroups",
        [
            {
                "id": 42,
                "path": "/system.slice/auction.service",
                "container": "auction",
                "runtime": "systemd",
            }
        ],
    )
    maker.dictionary("netns", [{"inum": 4026531840, "name": "host", "pid": 1}])
    maker.dictionary("processes", [{"pid": 1234, "comm": "auction-server", "ppid": 1, "uid": 0}])


def make_incident(path: Path, **maker_options: Any) -> Path:
    """Write the recording, complete."""
    maker = Maker(path, **maker_options)
    maker.seal("drops", DROPS[:3])
    maker.seal("drops", DROPS[3:])
    maker.seal("retransmits", RETRANSMITS)
    maker.seal("listen", LISTEN)
    maker.seal("totals", TOTALS)
    maker.seal("losses", LOSSES)
    explain(maker)
    return maker.finish(losses={"drops": {"ring_full": 6}})
