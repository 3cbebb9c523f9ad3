"""Totals and losses from the kernel's counters, with the maps stood in for by arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.format.tables import LOSSES, TOTALS
from droptape.recorder import counts
from droptape.recorder.counts import Counts

ENUMS = {"skb_drop_reason": {3: "NO_SOCKET"}}
TABLES = [all_kinds()[name].table.with_enums(ENUMS) for name in ("drops", "listen")]
RING_FULL, MAP_FULL = 0, 1


class Kernel:
    """The maps `totals` and `lost`, per CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys = np.zeros(0, counts._KEY)
        self.values = np.zeros((0, 2), counts._VALUE)
        self.lost: dict[int, list[int]] = {}
        monkeypatch.setattr(syscall, "map_items", lambda *_: (self.keys, self.values))
        monkeypatch.setattr(syscall, "map_lookup", self._lookup)

    def _lookup(self, fd: int, key: npt.NDArray[Any], value: npt.NDArray[Any]) -> bool:
        value[:] = self.lost.get(int(key[0]), [0, 0])
        return True

    def count(self, events: tuple[int, int], recorded: tuple[int, int], **key: int) -> None:
        """Add a key with its values on two CPUs."""
        row = np.zeros(1, counts._KEY)
        for name, value in key.items():
            row[name] = value
        self.keys = np.append(self.keys, row).astype(counts._KEY)
        counted = np.zeros((1, 2), counts._VALUE)
        counted["events"], counted["recorded"] = events, recorded
        self.values = np.append(self.values, counted.astype(counts._VALUE), axis=0)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def counted() -> Counts:
    fds = {"map:totals": -1, "map:lost": -1}
    return Counts(Loaded(["drops", "listen"], [], [], 2, 16, fds), TABLES)


def test_totals_are_what_was_added_since_last_time(kernel: Kernel, counted: Counts) -> None:
    kernel.count((5, 2), (4, 2), kind=0, cause=3, netns=77, protocol=6, location=0xFF)
    rows = counted.totals()
    assert rows.dtype == TOTALS.dtype
    ((kind, cause, netns, events, recorded),) = rows[
        ["kind", "cause", "netns", "events", "recorded"]
    ].tolist()
    assert (kind, cause, netns, events, recorded) == (b"drops", b"NO_SOCKET", 77, 7, 6)
    assert len(counted.totals()) == 0
    kernel.values["events"] += 1
    assert counted.totals()["events"].tolist() == [2]
    assert counted.events == {"drops": 9}


def test_benign_totals_are_kept_apart_and_unknown_reasons_stay_numbers(
    kernel: Kernel, counted: Counts
) -> None:
    kernel.count((1, 0), (0, 0), kind=0, cause=99, benign=1)
    kernel.count((3, 0), (3, 0), kind=1, cause=1)
    assert sorted(counted.totals()["cause"].tolist()) == [b"99", b"accept_queue_full"]
    assert (counted.events, counted.benign) == ({"listen": 3}, {"drops": 1})


def test_losses_are_rows_of_the_declared_record(kernel: Kernel, counted: Counts) -> None:
    kernel.lost = {0 * 4 + RING_FULL: [3, 4], 1 * 4 + MAP_FULL: [1, 0], 1 * 4 + RING_FULL: [0, 9]}
    rows = counted.losses()
    assert rows.dtype == LOSSES.dtype
    assert len(rows.tobytes()) == 3 * LOSSES.dtype.itemsize
    assert {(k, c, n) for k, c, n in rows[["kind", "cause", "events"]].tolist()} == {
        (b"drops", RING_FULL, 7),
        (b"listen", RING_FULL, 9),
        (b"listen", MAP_FULL, 1),
    }
    assert len(counted.losses()) == 0
    assert counted.lost == {"drops": {"ring_full": 7}, "listen": {"ring_full": 9, "map_full": 1}}
