"""Exact counts from the kernel: totals per key and losses, as what was added since last time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.format.decode import Records, enum_name
from droptape.format.schema import Table
from droptape.format.tables import LOSS_CAUSE, LOSSES, TOTALS

# struct totals_key and totals_value in bpf/droptape/bpf/core/totals.h.
_KEY = np.dtype(
    [
        ("location", "u8"),
        ("cause", "u4"),
        ("netns", "u4"),
        ("kind", "u1"),
        ("protocol", "u1"),
        ("benign", "u1"),
        ("unused", "V5"),
    ]
)
_VALUE = np.dtype(
    [
        ("events", "u8"), ("recorded", "u8"), ("window", "u8"), ("pending", "u8"), ("rows", "u4"),
        ("doubled_at", "u4"), ("shift", "u4"), ("sampled", "u4"),
    ]
)  # fmt: skip
_WINDOW_BITS = 30  # WINDOW_BITS in totals.h
_KERNEL_LOSSES = ("ring_full", "map_full", "sampled", "recursion")
_CAUSE_NUMBER = {name: number for number, name in LOSS_CAUSE.values.items()}


@dataclass(slots=True)
class Counts:
    """Reads the kernel's counters and keeps what they were.

    Attributes:
        loaded: the attached programs.
        tables: the event tables, in the order of their numbers in the kernel, with enum names.
        events: per table, all events so far, without the benign ones.
        benign: per table, all benign events so far.
        lost: per table and cause, all losses so far.
        sampled: tables of which not every event has its own row.
    """

    loaded: Loaded
    tables: Sequence[Table]
    events: dict[str, int] = field(default_factory=dict)
    benign: dict[str, int] = field(default_factory=dict)
    lost: dict[str, dict[str, int]] = field(default_factory=dict)
    sampled: set[str] = field(default_factory=set)
    _seen: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    _lost_seen: dict[int, int] = field(default_factory=dict)
    _read_ns: int = field(default_factory=time.monotonic_ns)
    _stale: dict[int, int] = field(default_factory=dict)
    _lost_now: dict[int, int] = field(default_factory=dict)

    def totals(self, *, end: bool = False) -> Records:
        """Return rows of TOTALS for every key that moved since the last call.

        Events that wait for a row to stand for them (`pending` in totals.h) are not in the rows
        yet: either the next row has them, or they are lost when their window is over.

        Args:
            end: there will be no more rows.
        """
        # Before the totals: what becomes lost in between is then told the next time, and not twice.
        self._lost_now = self._read_lost()
        keys, values = syscall.map_items(
            self.loaded.fds["map:totals"],
            _KEY,
            _VALUE,
            self.loaded.totals_entries,
            self.loaded.cpus,
        )
        before, now = self._read_ns, time.monotonic_ns()
        self._read_ns = now
        over = values["window"] != now >> _WINDOW_BITS if not end else True
        waiting = np.where(over, 0, values["pending"]).sum(axis=1)
        given_up = np.where(over, values["pending"], 0).sum(axis=1)
        self._stale = {}
        for kind in np.unique(keys["kind"][given_up > 0]).tolist():
            self._stale[kind] = int(given_up[keys["kind"] == kind].sum())
        for kind in np.unique(keys["kind"][values["sampled"].any(axis=1)]).tolist():
            self.sampled.add(self.tables[kind].name)
        events = values["events"].sum(axis=1) - waiting
        recorded = values["recorded"].sum(axis=1)
        rows = np.zeros(len(keys), TOTALS.dtype)
        used = 0
        for i, key in enumerate(keys):
            identity = key.tobytes()
            old_events, old_recorded = self._seen.get(identity, (0, 0))
            # A processor may be counting while its numbers are copied: none goes back for that.
            new = (max(int(events[i]), old_events), max(int(recorded[i]), old_recorded))
            if new == (old_events, old_recorded):
                continue
            self._seen[identity] = new
            table = self.tables[int(key["kind"])]
            row = rows[used]
            used += 1
            row["mono_ns"] = now
            row["kind"] = table.name
            row["cause"] = self._cause(table, int(key["cause"]))
            for name in ("location", "netns", "protocol", "benign"):
                row[name] = key[name]
            row["events"] = new[0] - old_events
            row["recorded"] = new[1] - old_recorded
            row["interval_ns"] = now - before
            counter = self.benign if key["benign"] else self.events
            counter[table.name] = counter.get(table.name, 0) + new[0] - old_events
        return rows[:used]

    @staticmethod
    def _cause(table: Table, value: int) -> str:
        column = table[table.cause]
        return "" if value == column.null_if else enum_name(column, value)

    def losses(self) -> Records:
        """Return rows of LOSSES for everything that was lost since the last call.

        They are what `totals` found, and have its time: both end one interval.
        """
        now = self._read_ns
        rows = np.zeros(len(self.tables) * len(_KERNEL_LOSSES), LOSSES.dtype)
        used = 0
        for number, table in enumerate(self.tables):
            for cause in _KERNEL_LOSSES:
                index = _lost_index(number, cause)
                count = self._lost_now.get(index, 0)
                if cause == "sampled":
                    count += self._stale.get(number, 0)
                added = count - self._lost_seen.get(index, 0)
                if added <= 0:
                    continue
                self._lost_seen[index] = count
                row = rows[used]
                used += 1
                row["mono_ns"], row["kind"] = now, table.name
                row["cause"], row["events"] = _CAUSE_NUMBER[cause], added
                per_cause = self.lost.setdefault(table.name, {})
                per_cause[cause] = per_cause.get(cause, 0) + added
        return rows[:used]

    def _read_lost(self) -> dict[int, int]:
        out: dict[int, int] = {}
        # Of drops also benign ones, which would only have been counted: it is not known which. What
        # a program made up for is in `lost`; read afterwards, so that nothing is told as lost that
        # is not.
        for number, table in enumerate(self.tables):
            programs = (
                fd for name, fd in self.loaded.fds.items() if name.startswith(f"runs:{table.name}/")
            )
            out[_lost_index(number, "recursion")] = sum(
                syscall.program_info(fd).recursion_misses for fd in programs
            )
        value = np.zeros(self.loaded.cpus, "u8")
        for number in range(len(self.tables)):
            for cause in _KERNEL_LOSSES:
                index = _lost_index(number, cause)
                syscall.map_lookup(self.loaded.fds["map:lost"], np.array([index], "u4"), value)
                counted = int(value.sum())
                out[index] = out[index] - counted if cause == "recursion" else counted
        return out


def _lost_index(table: int, cause: str) -> int:
    return table * len(LOSS_CAUSE.values) + _CAUSE_NUMBER[cause]
