"""Which drops explain the retransmits, as text."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from droptape.analyze.causes import Correlation
from droptape.analyze.plain import aligned, printable

_ROWS = 20
_NAMES = ["retransmit", "segments", "share", "explained by", "function", "netns", "device", "after"]
_MATCH = {"segment": "", "reply": " (of a reply)", "flow": "? (of the same flow)"}


def show(console: Console, found: Correlation) -> None:
    """Print `found`: the verdict, then a row for each cause."""
    console.print(Text(printable(found.verdict), "bold yellow"), soft_wrap=True)
    if found.rows:
        console.print()
        columns: list[list[str]] = [[] for _ in _NAMES]
        for row in found.rows[:_ROWS]:
            delay = row["delay_ms"]
            match = row["match"]
            cause = f"{row['reason'] or 'drop'}{_MATCH[match]}" if match else "no drop seen"
            texts = [
                row["kind"], f"{row['segments']:,}", f"{row['share'] or 0:.1f} %", cause,
                row["function"] or "-", row["netns"] or "-", row["ifname"] or "-",
                "-" if delay is None else f"{delay:,.1f} ms",
            ]  # fmt: skip
            for column, text in zip(columns, texts, strict=True):
                column.append(text)
        right = [False, True, True, False, False, False, False, True]
        for line in aligned(_NAMES, columns, right, markdown=False):
            console.print(Text(line), soft_wrap=True)
        if len(found.rows) > _ROWS:
            console.print(f"and {len(found.rows) - _ROWS} more; --format csv has all")
    for note in found.notes:
        console.print(Text(printable(note), "bold red"), soft_wrap=True)
