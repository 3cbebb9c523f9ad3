"""What changed between two recordings, as text: the verdict first."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from droptape.analyze.comparison import Change, Diff, Verdict
from droptape.analyze.comparison.words import times
from droptape.analyze.plain import aligned, printable

from .words import rate

_COLORS = {
    Verdict.NEW: "bold red", Verdict.WORSE: "bold red", Verdict.GONE: "bold green",
    Verdict.BETTER: "bold green", Verdict.SAME: "dim",
}  # fmt: skip
_ROWS, _SAME, _SETTINGS = 20, 5, 20
_SHORT = {"second": "s", "connection": "conn", "segment": "M seg"}


def show(console: Console, diff: Diff) -> None:
    """Print `diff`."""
    bad = diff.fails("worse")
    style = "bold red" if bad else "bold green" if diff.fails("any") else "bold"
    console.print(Text(printable(diff.verdict), style), soft_wrap=True)
    console.print()
    changed = [c for c in diff.changes if c.verdict is not Verdict.SAME]
    same = [c for c in diff.changes if c.verdict is Verdict.SAME]
    shown = [*changed[:_ROWS], *same[:_SAME]]
    if shown:
        _table(console, diff, shown)
        hidden = len(diff.changes) - len(shown)
        if hidden:
            left = f"and {len(changed) - _ROWS} more that changed, " if len(changed) > _ROWS else ""
            text = f"{left}and {max(len(same) - _SAME, 0)} more the same; --format csv has all"
            console.print(Text(text, "dim"))
        console.print()
    _settings(console, diff)
    for note in diff.notes:
        console.print(Text(printable(note)), soft_wrap=True)


def _table(console: Console, diff: Diff, changes: list[Change]) -> None:
    names = ["verdict", "kind", *diff.by, "before", "after", "per", "ratio", "between"]
    columns: list[list[str]] = [[] for _ in names]
    for change in changes:
        old, new = change.rates.get(change.per, (float(change.before), float(change.after)))
        values = [change.values[column] for column in diff.by]
        verdict = change.verdict.value + ("" if change.sure else "?")
        row = [
            "benign" if change.benign else verdict, change.kind,
            *("-" if value is None else str(value) for value in values),
            rate(old), rate(new), _SHORT[change.per], times(change.ratio),
            f"{times(change.low)} to {times(change.high)}",
        ]  # fmt: skip
        for column, text in zip(columns, row, strict=True):
            column.append(text)
    right = [False, False, *[False] * len(diff.by), True, True, False, True, True]
    head, rule, *lines = aligned(names, columns, right, markdown=False)
    console.print(Text(head, "dim"), soft_wrap=True)
    console.print(Text(rule, "dim"), soft_wrap=True)
    for line, change in zip(lines, changes, strict=True):
        color = "dim" if change.benign else _COLORS[change.verdict]
        console.print(Text(line, color), soft_wrap=True)
    if any(not change.sure for change in changes):
        console.print(Text("? so few bursts that it may be chance: record again", "dim"))


def _settings(console: Console, diff: Diff) -> None:
    if not diff.settings:
        return
    console.print(Text("SET DIFFERENTLY", "bold"))
    for setting in diff.settings[:_SETTINGS]:
        old, new = setting.before or "none", setting.after or "none"
        text = f"  {setting.what} {setting.name}: {old} before, {new} after"
        console.print(Text(printable(text)), soft_wrap=True)
    more = len(diff.settings) - _SETTINGS
    if more > 0:
        console.print(f"  and {more} more; --format json has all")
    console.print()
