"""Totals and losses from the kernel's counters, with the maps stood in for by arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.format.tables import LOSS_CAUSE, LOSSES, TOTALS
from droptape.recorder import counts
from droptape.recorder.counts import Counts

ENUMS = {"skb_drop_reason": {3: "NO_SOCKET"}}
TABLES = [all_kinds()[name].table.with_enums(ENUMS) for name in ("drops", "listen")]
RING_FULL, MAP_FULL, SAMPLED, RECURSION = 0, 1, 2, 4
CAUSES = len(LOSS_CAUSE.values)


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


def test_totals_say_how_long_they_counted(
    kernel: Kernel, counted: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others need the processors, what is done once a second is done more seldom."""
    kernel.count((1, 0), (1, 0), kind=0, cause=3)
    began, second = counted._read_ns, 10**9
    for now, since in ((began + second, second), (began + 6 * second, 5 * second)):
        monkeypatch.setattr("time.monotonic_ns", lambda now=now: now)
        (row,) = counted.totals()
        assert (row["mono_ns"], row["interval_ns"]) == (now, since)
        kernel.values["events"] += 1


def test_benign_totals_are_kept_apart_and_unknown_reasons_stay_numbers(
    kernel: Kernel, counted: Counts
) -> None:
    kernel.count((1, 0), (0, 0), kind=0, cause=99, benign=1)
    kernel.count((3, 0), (3, 0), kind=1, cause=1)
    assert sorted(counted.totals()["cause"].tolist()) == [b"99", b"accept_queue_full"]
    assert (counted.events, counted.benign) == ({"listen": 3}, {"drops": 1})


def test_losses_are_rows_of_the_declared_record(kernel: Kernel, counted: Counts) -> None:
    kernel.lost = {
        0 * CAUSES + RING_FULL: [3, 4],
        1 * CAUSES + MAP_FULL: [1, 0],
        1 * CAUSES + RING_FULL: [0, 9],
    }
    counted.totals()
    rows = counted.losses()
    assert rows.dtype == LOSSES.dtype
    assert len(rows.tobytes()) == 3 * LOSSES.dtype.itemsize
    assert {(k, c, n) for k, c, n in rows[["kind", "cause", "events"]].tolist()} == {
        (b"drops", RING_FULL, 7),
        (b"listen", RING_FULL, 9),
        (b"listen", MAP_FULL, 1),
    }
    counted.totals()
    assert len(counted.losses()) == 0
    assert counted.lost == {"drops": {"ring_full": 7}, "listen": {"ring_full": 9, "map_full": 1}}


def test_runs_that_the_kernel_left_out(
    kernel: Kernel, counted: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = {7: 2, 8: 0, 9: 5}
    info = syscall.ProgramInfo
    monkeypatch.setattr(syscall, "program_info", lambda fd: info(missed[fd], 0))
    counted.loaded.fds |= {"runs:drops/one": 7, "runs:listen/two": 8, "runs:drops/three": 9}
    for added in (7, 1):
        counted.totals()
        rows = counted.losses()
        assert rows[["kind", "cause", "events"]].tolist() == [(b"drops", RECURSION, added)]
        missed[7] += 1
    # One more, which another program made up for.
    kernel.lost = {0 * CAUSES + RECURSION: [1, 0]}
    counted.totals()
    assert len(counted.losses()) == 0
    assert counted.lost == {"drops": {"recursion": 8}}


def books(counted: Counts, *, end: bool = False) -> tuple[int, int, int]:
    """Events, recorded events and losses of one interval."""
    totals, losses = counted.totals(end=end), counted.losses()
    return (
        int(totals["events"].sum()),
        int(totals["recorded"].sum()),
        int(losses["events"].sum()),
    )


def test_what_waits_for_a_row_is_counted_with_it_or_when_it_is_lost(
    kernel: Kernel, counted: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = 5 << 30
    monkeypatch.setattr("time.monotonic_ns", lambda: window)
    counted._read_ns = window
    kernel.count((100, 0), (90, 0), kind=0, cause=3)
    kernel.values["window"], kernel.values["sampled"][0, 0] = 5, 1
    kernel.values["pending"][0] = (10, 0)
    assert books(counted) == (90, 90, 0)
    assert counted.sampled == {"drops"}
    # The next row takes the ten with it, and four more wait.
    kernel.values["events"][0, 0], kernel.values["recorded"][0, 0] = 105, 101
    kernel.values["pending"][0] = (4, 0)
    assert books(counted) == (11, 11, 0)
    # Their window is over.
    window = 6 << 30
    assert books(counted) == (4, 0, 4)
    # The kernel notices it with the key's next event.
    kernel.lost = {0 * CAUSES + SAMPLED: [4, 0]}
    kernel.values["pending"][0], kernel.values["window"][0, 0] = (0, 0), 6
    kernel.values["events"][0, 0] += 1
    kernel.values["recorded"][0, 0] += 1
    assert books(counted) == (1, 1, 0)
    kernel.values["events"][0, 0] += 3
    kernel.values["pending"][0] = (3, 0)
    assert books(counted) == (0, 0, 0)
    assert books(counted, end=True) == (3, 0, 3)
    assert counted.lost == {"drops": {"sampled": 7}}
