"""Events over time, drawn in a terminal."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from droptape.analyze.plain import printable

from .words import bars, duration, offset, squeeze, utc

_GROUPS = 12
_TALL = 4
_COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")


def show(console: Console, rows: pa.Table, width_ns: int, span_ns: tuple[int, int]) -> None:
    """Draw the rows of `Recording.timeline`, one chart for each value of its third column.

    Args:
        console: where to.
        rows: columns start, offset, the split, events.
        width_ns: width of a bucket.
        span_ns: start and end of the recordings, ns since 1970.
    """
    if rows.num_rows == 0:
        console.print("No events.")
        return
    start, end = span_ns
    buckets = [round(o * 1e9 / width_ns) for o in rows.column("offset").to_pylist()]
    first, last = min(0, *buckets), max((end - start - 1) // width_ns, *buckets)
    groups: dict[str, list[int]] = {}
    for bucket, value, events in zip(
        buckets, rows.column(2).to_pylist(), rows.column(3).to_pylist(), strict=True
    ):
        label = "-" if value is None else printable(str(value))
        groups.setdefault(label, [0] * (last - first + 1))[bucket - first] += events
    ordered = sorted(groups.items(), key=lambda item: (-sum(item[1]), item[0]))
    room = max(console.width - 2, 20)
    merged = -(-(last - first + 1) // room)
    for number, (label, counts) in enumerate(ordered[:_GROUPS]):
        counts = squeeze(counts, room)
        peak = max(counts)
        console.print(
            Text(label, "bold")
            + Text(f"  {sum(counts):,} events, at most {peak:,} in a bar", "dim")
        )
        height = _TALL if len(ordered) <= 4 else 1
        for line in bars(counts, height):
            console.print(Text("  " + line, _COLORS[number % len(_COLORS)]), no_wrap=True)
    if len(ordered) > _GROUPS:
        console.print(f"and {len(ordered) - _GROUPS} more with fewer events")
    shown = len(squeeze([0] * (last - first + 1), room))
    left = utc(start + first * width_ns)
    right = offset(start + (last + 1) * width_ns, start)
    console.print(f"  {left} UTC{right.rjust(max(shown - len(left) - 4, len(right) + 1))}")
    console.print(f"  a bar is {duration(width_ns * merged / 1e9)}")
