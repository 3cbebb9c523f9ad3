"""A timeline in the trace event format (JSON), which ui.perfetto.dev opens.

Each kind of event is a process with a track for each owner, whose events are instants; beside
them are counters: exact counts per second by cause, and how full the accept queues were. Times
are microseconds since the first recording began.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from . import questions
from .questions import Written

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

Item = dict[str, Any]

MAX_OWNERS = 40
"""Tracks of one kind; the rarest owners share one."""

_OTHERS = "other processes"
_SECOND = 1_000_000_000
_DETAILS = ("flow", "function", "owner_source", "container", "netns")


def write(rec: Recording, out: TextIO, max_events: int) -> Written:
    """Write the timeline with at most about `max_events` instants."""
    info = rec.info()
    timeline = _Timeline(out, info.origin_ns)
    several = len(rec.sources) > 1
    origin = datetime.fromtimestamp(info.origin_ns // _SECOND, timezone.utc)
    out.write('{"displayTimeUnit": "ms", "traceEvents": [')
    for mark in rec.marked():
        place = timeline.place("marks", "marks")
        timeline.add({"name": mark.text, "cat": "mark", "ph": "i", "s": "g", **place}, mark.ts_ns)
    timeline.counters(questions.counts(rec), several, _label, lambda row: {"events": row["events"]})
    timeline.counters(questions.losses(rec), several, _lost, lambda row: {"events": row["events"]})
    for row in questions.queues(rec):
        name = f"{_process('accept queues', row, several)}"
        item = {"name": f"{row['laddr']}:{row['lport']} {row['owner']}".strip(), "ph": "C",
                "pid": timeline.place(name, "")["pid"],
                "args": {"waiting": row["waiting"], "limit": row["limit"]}}  # fmt: skip
        timeline.add(item, row["at_ns"])
    items, every = 0, 1
    for row in questions.events(rec, max_events, MAX_OWNERS):
        every = row["every"]
        timeline.add(_instant(row, timeline, several), row["at_ns"])
        items += 1
    out.write("\n], ")
    other = {
        "recordings": ", ".join(source.name for source in rec.sources),
        "zero": f"{origin:%Y-%m-%dT%H:%M:%S}.{info.origin_ns % _SECOND:09d}Z",
        "events": "all" if every == 1 else f"one of {every} of each cause; counters are exact",
    }
    out.write(f'"otherData": {json.dumps(other)}}}\n')
    return Written(items, every)


@dataclass
class _Timeline:
    """The items of the JSON array, and the processes and threads that were introduced."""

    out: TextIO
    origin_ns: int
    _pids: dict[str, int] = field(default_factory=dict)
    _tids: dict[tuple[int, str], int] = field(default_factory=dict)
    _first: bool = True

    def add(self, item: Item, at_ns: int) -> None:
        """Write an item that happened at `at_ns` (since 1970)."""
        self._write(item | {"ts": max(at_ns - self.origin_ns, 0) / 1000})

    def place(self, process: str, thread: str) -> Item:
        """Return the numbers of a track; introduce it the first time."""
        pid = self._pids.get(process)
        if pid is None:
            pid = self._pids[process] = len(self._pids) + 1
            self._introduce("process", {"pid": pid, "tid": 0}, process)
        tid = self._tids.get((pid, thread))
        if tid is None:
            # Unlike any process's number, or Perfetto takes it for the main thread of one.
            tid = self._tids[pid, thread] = 1000 * pid + len(self._tids) + 1
            if thread:
                self._introduce("thread", {"pid": pid, "tid": tid}, thread)
        return {"pid": pid, "tid": tid}

    def counters(
        self,
        rows: Iterator[Item],
        several: bool,
        label: Callable[[Item], tuple[str, str]],
        values: Callable[[Item], Item],
    ) -> None:
        """Write a counter for each label: a value holds for its interval, then it is 0 again."""
        by_label: dict[tuple[str, str], dict[int, int]] = {}
        for row in rows:
            kind, name = label(row)
            series = by_label.setdefault((_process(kind, row, several), name), {})
            start = row["at_ns"] - _SECOND
            series[start] = series.get(start, 0) + values(row)["events"]
        for (process, name), series in by_label.items():
            place = {"pid": self.place(process, "")["pid"]}
            item = {"name": name, "ph": "C", **place}
            for at, value in _with_zeros(series):
                self.add(item | {"args": {"events": value}}, at)

    def _introduce(self, what: str, place: Item, name: str) -> None:
        self._write({"name": f"{what}_name", "ph": "M", **place, "args": {"name": name}})
        order = {"name": f"{what}_sort_index", "ph": "M", **place}
        self._write(order | {"args": {"sort_index": place["tid"] or place["pid"]}})

    def _write(self, item: Item) -> None:
        self.out.write("\n" if self._first else ",\n")
        self._first = False
        self.out.write(json.dumps(item))


def _with_zeros(series: dict[int, int]) -> Iterator[tuple[int, int]]:
    times = sorted(series)
    for number, at in enumerate(times):
        yield at, series[at]
        following = times[number + 1] if number + 1 < len(times) else None
        if following is None or following > at + _SECOND * 3 // 2:
            yield at + _SECOND, 0


def _process(what: str, row: Item, several: bool) -> str:
    return f"{row['recording']}: {what}" if several else what


def _label(row: Item) -> tuple[str, str]:
    benign = " (normal operation)" if row["benign"] else ""
    return row["kind"], f"{row['cause'] or row['kind']} per second{benign}"


def _lost(row: Item) -> tuple[str, str]:
    return row["kind"], f"LOST, not recorded: {row['cause']}"


def _instant(row: Item, timeline: _Timeline, several: bool) -> Item:
    place = timeline.place(_process(row["kind"], row, several), row["track"] or _OTHERS)
    details = {name: row[name] for name in _DETAILS if row[name] not in (None, "none")}
    if row["amount"] != 1:
        details["events"] = row["amount"]
    if row["every"] > 1:
        details["one of"] = row["every"]
    return {"name": row["cause"], "cat": row["kind"], "ph": "i", "s": "t", **place,
            "args": details}  # fmt: skip
