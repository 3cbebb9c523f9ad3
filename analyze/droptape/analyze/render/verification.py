"""What `verify` found, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from droptape.analyze.plain import aligned
from droptape.analyze.verify import Finding, Verdict, Verification

_STYLE = {Verdict.UNEXPLAINED: "bold red", Verdict.NOT_CHECKED: "yellow"}


def show(console: Console, found: Verification, *, all_rows: bool) -> None:
    """Print `found`: what differs, or everything, and the verdict."""
    shown = [f for f in found.findings if all_rows or f.verdict is not Verdict.OK]
    if shown:
        head, rule, *lines = aligned(
            ["verdict", "what", "netns", "counted", "recorded", "lost", "why"],
            list(zip(*(_cells(f, found) for f in shown), strict=True)),
            [False, False, True, True, True, True, False],
            markdown=False,
        )
        console.print(Text(head, "dim"), soft_wrap=True)
        console.print(Text(rule, "dim"), soft_wrap=True)
        for line, finding in zip(lines, shown, strict=True):
            console.print(Text(line, _STYLE.get(finding.verdict, "")), soft_wrap=True)
        console.print()
    bad = len(found.unexplained)
    if bad:
        console.print(Text(f"The books do not balance: {bad} unexplained.", "bold red"))
        return
    compared = sum(f.part != "files" for f in found.findings)
    text = f"All files are whole, and the books balance ({compared} comparisons)."
    console.print(Text(text, "bold green"))


def _cells(finding: Finding, found: Verification) -> tuple[str | None, ...]:
    several = len({f.recording for f in found.findings}) > 1
    what = f"{finding.part} {finding.subject}"
    return (
        finding.verdict.value,
        f"{finding.recording}: {what}" if several else what,
        _number(finding.netns, plain=True),
        _number(finding.counted),
        _number(finding.recorded),
        _number(finding.lost or None),
        finding.why,
    )


def _number(value: int | None, *, plain: bool = False) -> str | None:
    if value is None:
        return None
    return str(value) if plain else f"{value:,}"
