"""Records that look like real traffic: bursts of a few flows, few causes, many remotes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from droptape.bpf.kinds import all_kinds
from droptape.format.decode import Records
from droptape.format.schema import Table

_REASONS = {n: f"REASON_{n}" for n in range(2, 100)}


def drops_table() -> Table:
    """The drops table with names for its reasons, as a recorder fills it in."""
    return all_kinds()["drops"].table.with_enums({"skb_drop_reason": _REASONS})


def mapped(v4: npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """IPv4 addresses (u4) as IPv6-mapped 16 bytes."""
    raw = np.zeros((len(v4), 16), np.uint8)
    raw[:, 10:12] = 0xFF
    raw[:, 12:] = v4.astype(">u4").view(np.uint8).reshape(-1, 4)
    return raw.view("V16").reshape(-1)


def drops(rows: int, *, remotes: int = 10_000, seed: int = 1, start: int = 10**15) -> Records:
    """Make `rows` drops in bursts: about 8 packets of one flow near each other in time.

    `mono_ns` grows from `start`, nearly in order, as several processors would write it; the last
    field that a test can count on is `ack`, the row's number.
    """
    rng = np.random.default_rng(seed)
    flows = max(rows // 8, 1)
    flow = np.sort(rng.integers(0, flows, rows) * 8 + rng.integers(0, 400, rows)) // 8
    flow = (flow + rng.integers(0, 16, rows)) % flows
    remote = rng.zipf(1.3, flows) % remotes
    service = rng.integers(0, 6, flows)
    tcp = service < 4
    cause = rng.integers(0, 12, flows)
    out = np.zeros(rows, drops_table().dtype)
    out["mono_ns"] = (
        start + np.sort(rng.integers(0, rows * 2_000, rows)) + rng.integers(0, 900, rows)
    )
    out["saddr"] = mapped(0x0A000000 + remote * 7919 % 2**24)[flow]
    out["daddr"] = mapped(0x0A640001 + service % 3)[flow]
    out["sport"] = rng.integers(32768, 60999, flows)[flow]
    out["dport"] = np.array([80, 443, 8080, 5432, 53, 8125])[service][flow]
    out["cgroup_id"] = (1000 + service * 37)[flow]
    out["netns"] = 4026531840
    owned = (service != 5)[flow]
    out["owner_pid"] = np.where(owned, (2000 + service)[flow], 0)
    names = np.array([b"nginx", b"haproxy", b"auction-server", b"postgres", b"named", b""])
    out["owner_comm"] = names[service][flow]
    out["owner_source"] = np.where(owned, 3, 0)
    context = rng.integers(0, 8, rows)
    out["context_pid"] = np.where(context < 5, 0, context + 300)
    tasks = [b"swapper/0", b"swapper/1", b"swapper/2", b"swapper/3", b"swapper/4", b"ksoftirqd/1"]
    out["context_comm"] = np.array([*tasks, b"nginx", b"postgres"])[context]
    out["ifname"] = np.array([b"eth0", b"eth1", b"lo"])[(service % 3)][flow]
    out["uid"] = np.where(owned, 33, 0xFFFFFFFF)
    out["weight"] = 1
    out["cpu"] = (flow % 8).astype(np.uint16)
    out["ip_version"] = 4
    out["protocol"] = np.where(tcp, 6, 17)[flow]
    out["state"] = np.where(tcp, 1 + service * 3 % 10, 0)[flow]
    out["location"] = (0xFFFFFFFF81000000 + cause.astype(np.uint64) * np.uint64(48_271))[flow]
    out["reason"] = (2 + cause * 5)[flow]
    out["length"] = np.where(tcp, rng.choice([40, 52, 60, 1500], flows), 180)[flow]
    sequence = rng.integers(0, 2**32, flows)[flow] + rng.integers(0, 64, rows) * 1448
    out["seq"] = np.where(tcp[flow], sequence % 2**32, 0)
    out["ack"] = np.where(tcp[flow], rng.integers(0, 2**32, flows)[flow], 0)
    out["tcp_flags"] = np.where(tcp, rng.choice([2, 16, 24], flows), 0)[flow]
    return out
