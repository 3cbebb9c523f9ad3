"""Numbers and times as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

_BARS = "▁▂▃▄▅▆▇█"


def utc(ns: int, date: bool = True) -> str:
    """Return a time, ns since 1970, as UTC to the second."""
    when = datetime.fromtimestamp(ns // 1_000_000_000, timezone.utc)
    return f"{when:%Y-%m-%d %H:%M:%S}" if date else f"{when:%H:%M:%S}"


def offset(ns: int | None, start: int) -> str:
    """Return a time as the offset from `start`: +0.3 s, +1:02:03; a dash for None."""
    if ns is None:
        return "-"
    seconds = (ns - start) / 1e9
    sign = "-" if round(seconds, 1) < 0 else "+"
    seconds = abs(seconds)
    if seconds < 99.95:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    clock = f"{rest // 60}:{rest % 60:02d}"
    return f"{sign}{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{sign}{clock} min"


def duration(seconds: float) -> str:
    """Return a duration: 350 ms, 12.3 s, 5 min 0 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below} {lower}"
    return f"{whole // 60} min {whole % 60} s"


def rate(per_second: float | None) -> str:
    """Return a rate with three digits at most: 41.2, 0.05, 12,345; a dash for None."""
    if per_second is None:
        return "-"
    if per_second == 0:
        return "0"
    if per_second < 0.01:
        return "<0.01"
    return f"{per_second:.2f}" if per_second < 10 else f"{per_second:,.{per_second < 100:d}f}"


def size(count: int) -> str:
    """Return a number of bytes: 512 B, 1.5 MB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def loss(kind: str, cause: str | None, events: int) -> str:
    """Say what a loss is, as one sentence."""
    why = (cause or "unknown").replace("_", " ")
    if cause == "map_full" and kind != "connections":
        # The row of such an event is written all the same.
        return f"In no total, but in rows: {events:,} {kind} ({why}: too many different ones)."
    return f"Not recorded: {events:,} {kind} ({why})."


def sparkline(values: Sequence[int], width: int) -> str:
    """Draw values as at most `width` bars one character high; a dot where there is nothing."""
    columns = squeeze(values, width)
    top = max(columns, default=0)
    return "".join("·" if v == 0 else _BARS[min(v * 8 // (top + 1), 7)] for v in columns)


def bars(values: Sequence[int], height: int) -> list[str]:
    """Draw values as bars of `height` lines, the upper line first."""
    top = max(values, default=0)
    eighths = [0 if v == 0 else max(1, round(v * height * 8 / top)) for v in values]
    lines = []
    for level in range(height - 1, -1, -1):
        filled = [min(max(e - level * 8, 0), 8) for e in eighths]
        lines.append("".join(" " if f == 0 else _BARS[f - 1] for f in filled))
    return lines


def squeeze(values: Sequence[int], width: int) -> list[int]:
    """Add neighbours together until at most `width` values are left."""
    step = -(-len(values) // width) if values else 1
    return [sum(values[i : i + step]) for i in range(0, len(values), step)]
