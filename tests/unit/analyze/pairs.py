"""Pairs of recordings for the tests of `diff`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unit.analyze.make import START, Maker

Row = dict[str, Any]
NFT: Mapping[str, Any] = {"reason": "NETFILTER_DROP", "location": 0x3010}
CLOSED: Mapping[str, Any] = {"reason": "NO_SOCKET", "location": 0x1200}
FLOW: Mapping[str, Any] = {
    "saddr": "10.0.0.7", "daddr": "10.0.0.2", "sport": 51034, "dport": 8080,
    "owner_comm": "server", "owner_pid": 7, "owner_source": "listener",
}  # fmt: skip


def spread(
    rng: np.random.Generator, rate: float, seconds: float, like: Mapping[str, Any]
) -> list[Row]:
    """Return rows of independent drops at `rate` per second."""
    times = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    return [{**FLOW, **like, "at": at} for at in times.tolist()]


def make(
    path: Path,
    drops: Sequence[Row],
    *,
    seconds: float = 60,
    segments: int | None = None,
    exact: Sequence[Row] | None = None,
    sysctls: Mapping[str, str] | None = None,
    listeners: Sequence[Row] = (),
    losses: Mapping[str, int] | None = None,
    **maker: Any,
) -> Path:
    """Write a recording of `drops`; the totals agree with them unless `exact` has others."""
    made = Maker(path, **maker)
    made.symbols()
    made.seal("drops", drops)
    totals = exact if exact is not None else counted(drops)
    made.seal("totals", totals)
    if segments is not None:
        made.seal("counters", [
            {"at": at, "netns": 1, "name": name, "value": value}
            for name, last in (("Tcp.OutSegs", segments), ("Tcp.PassiveOpens", segments // 10))
            for at, value in ((0, 1000), (seconds / 2, 1000 + last // 2), (seconds, 1000 + last))
        ])  # fmt: skip
    if sysctls:
        made.dictionary("sysctls", [
            {"ts": START, "netns": 1, "name": name, "value": value}
            for name, value in sysctls.items()
        ])  # fmt: skip
    if listeners:
        made.seal("listeners", listeners)
    if losses:
        made.seal("losses", [{"at": 3, "kind": "drops", "cause": cause, "events": number}
                             for cause, number in losses.items()])  # fmt: skip
    return made.finish(ended_ns=START + round(seconds * 1e9))


def counted(drops: Sequence[Row]) -> list[Row]:
    """Return totals that agree with rows."""
    sums: dict[tuple[Any, ...], int] = {}
    for row in drops:
        key = (int(row["at"]) + 1, row["reason"], row["location"], row.get("benign", 0))
        sums[key] = sums.get(key, 0) + row.get("weight", 1)
    return [
        {"at": at, "kind": "drops", "cause": reason, "location": location, "benign": benign,
         "events": number, "recorded": number, "protocol": "TCP"}
        for (at, reason, location, benign), number in sums.items()
    ]  # fmt: skip
