"""Events over time, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from droptape.analyze.plain import printable
from droptape.analyze.times import Mark

from .words import bars, duration, offset, utc

_GROUPS = 12
_TALL = 4
_MARKS = 10
_COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")


@dataclass(frozen=True, slots=True)
class Axis:
    """The time axis of a drawing: buckets of `width_ns` since `origin_ns`, over `span_ns`."""

    width_ns: int
    origin_ns: int
    span_ns: tuple[int, int]


def show(
    console: Console,
    rows: pa.Table,
    axis: Axis,
    marks: Sequence[Mark] = (),
    beside: str | None = None,
) -> None:
    """Draw the rows of `Recording.timeline`, one chart for each value of its third column.

    Args:
        console: where to.
        rows: columns start, offset, the split, events; with `beside` failed and latencies.
        axis: what the bars stand for.
        marks: moments to point at.
        beside: the value of the third column whose rows are requests of a load generator.
    """
    if rows.num_rows == 0:
        console.print("No events.")
        return
    start, end = (edge - axis.origin_ns for edge in axis.span_ns)
    width = axis.width_ns
    buckets = [round(o * 1e9 / width) for o in rows.column("offset").to_pylist()]
    first, last = min(start // width, *buckets), max((end - 1) // width, *buckets)
    room = max(console.width - 2, 20)
    # Counted for the bars that are drawn: there may be more buckets than fit into memory.
    step = -(-(last - first + 1) // room)
    size = -(-(last - first + 1) // step)
    groups: dict[str, list[int]] = {}
    for bucket, value, events in zip(
        buckets, rows.column(2).to_pylist(), rows.column(3).to_pylist(), strict=True
    ):
        if beside is not None and value == beside:
            continue
        label = "-" if value is None else printable(str(value))
        groups.setdefault(label, [0] * size)[(bucket - first) // step] += events
    ordered = sorted(groups.items(), key=lambda item: (-sum(item[1]), item[0]))
    for number, (label, counts) in enumerate(ordered[:_GROUPS]):
        _chart(
            console, label, f"{sum(counts):,} events, at most {max(counts):,} in a bar", counts,
            _TALL if len(ordered) <= 4 else 1, _COLORS[number % len(_COLORS)],
        )  # fmt: skip
    if len(ordered) > _GROUPS:
        console.print(f"and {len(ordered) - _GROUPS} more with fewer events")
    if beside is not None:
        _load(console, rows, beside, buckets, first, last, room)
    _foot(console, axis, first, last, room, marks)


def _chart(
    console: Console, label: str, words: str, values: list[int], height: int, color: str
) -> None:
    console.print(Text(label, "bold") + Text(f"  {words}", "dim"))
    for line in bars(values, height):
        console.print(Text("  " + line, color), no_wrap=True)


def _load(
    console: Console, rows: pa.Table, beside: str, buckets: list[int], first: int, last: int,
    room: int,
) -> None:  # fmt: skip
    """Draw the requests of a load generator, and their latencies, in the same columns."""
    label = printable(beside)
    mine = [index for index, value in enumerate(rows.column(2).to_pylist()) if value == beside]
    step = -(-(last - first + 1) // room)
    size = -(-(last - first + 1) // step)
    for column, words in (("events", "requests"), ("failed", "failed")):
        counts = [0] * size
        values = rows.column(column).to_pylist()
        for index in mine:
            counts[(buckets[index] - first) // step] += values[index] or 0
        if any(counts) or column == "events":
            _chart(console, f"{label} {words}", f"{sum(counts):,}", counts, 1, "white")
    for column, words in (("p50_ms", "median latency"), ("p99_ms", "99 % latency")):
        peaks = [0.0] * size
        values = rows.column(column).to_pylist()
        for index in mine:
            at = (buckets[index] - first) // step
            peaks[at] = max(peaks[at], values[index] or 0.0)
        if any(peaks):
            text = f"at most {max(peaks):,.4g} ms"
            scaled = [round(peak * 1000) for peak in peaks]
            _chart(console, f"{label} {words}", text, scaled, _TALL, "white")


def _foot(
    console: Console, axis: Axis, first: int, last: int, room: int, marks: Sequence[Mark]
) -> None:
    number = last - first + 1
    step = -(-number // room)
    shown = -(-number // step)
    where = [((m.ts_ns - axis.origin_ns) // axis.width_ns - first) // step for m in marks]
    if any(0 <= at < shown for at in where):
        line = "".join("▲" if at in where else " " for at in range(shown)).rstrip()
        console.print(Text("  " + line, "bold"), no_wrap=True)
    left = utc(axis.origin_ns + first * axis.width_ns)
    right = offset(axis.origin_ns + (last + 1) * axis.width_ns, axis.origin_ns)
    console.print(f"  {left} UTC{right.rjust(max(shown - len(left) - 4, len(right) + 1))}")
    console.print(f"  a bar is {duration(axis.width_ns * step / 1e9)}")
    for mark in marks[:_MARKS]:
        text = f"  ▲ {offset(mark.ts_ns, axis.origin_ns)} {printable(mark.text)}"
        console.print(Text(text), soft_wrap=True)
    if len(marks) > _MARKS:
        console.print(f"  and {len(marks) - _MARKS} more marks")
