"""A diagnosis for people, most severe first; readable at 3 a.m. in 80 columns."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from droptape.analyze.diagnosis import Check, Diagnosis, Finding
from droptape.analyze.plain import printable

from .words import duration, utc

_STYLE = {"critical": "bold red", "warning": "bold yellow", "notice": "bold", "info": "dim"}
_FULL = 3
"""Findings of one rule that are shown in full; the others are counted."""

_WIDEST = 100
"""Longer lines of prose are hard to read."""

_LINES = 8
"""Findings below warning that are shown with a line."""


def show(
    console: Console, found: Diagnosis, paths: Sequence[str], *, in_full: bool = False
) -> None:
    """Print `found`.

    Args:
        console: where to.
        found: the diagnosis.
        paths: the recordings as the user named them, for the commands shown.
        in_full: show notices in full too, not only warnings and above.
    """
    for line in _head(found):
        _line(console, line)
    full = found.findings if in_full else found.at_least("warning")
    lesser = [finding for finding in found.findings if finding not in full]
    console.print()
    _line(console, _verdict(found))
    shown: Counter[str] = Counter()
    for finding in full:
        shown[finding.id] += 1
        if shown[finding.id] <= _FULL:
            console.print()
            _finding(console, finding, paths, several=len(found.info.recordings) > 1)
    _more(console, full, shown)
    if lesser:
        _lesser(console, lesser)
    _checks(console, found)
    _footer(console, found)


def _line(console: Console, text: Text, indent: int = 0) -> None:
    width = max(min(console.width, _WIDEST) - indent, 20)
    for line in text.wrap(console, width):
        line.rstrip()
        console.print(Text(" " * indent) + line, soft_wrap=True)


def _prose(console: Console, text: str, indent: int, style: str = "") -> None:
    _line(console, Text(printable(text), style), indent)


def _raw(console: Console, text: str, indent: int) -> None:
    """Print what is to be copied: never broken into lines."""
    console.print(Text(" " * indent + printable(text), "cyan"), soft_wrap=True)


def _head(found: Diagnosis) -> list[Text]:
    lines = []
    for one in found.info.recordings[:3]:
        where = f"{one.host.name}, Linux {one.host.kernel}" if one.host else "host unknown"
        lines.append(Text(printable(one.name), "bold") + Text(f"  {printable(where)}", "default"))
    if len(found.info.recordings) > 3:
        lines.append(Text(f"and {len(found.info.recordings) - 3} more recordings", "bold"))
    start, end = found.info.span_ns
    if start:
        until = utc(end, date=utc(start)[:10] != utc(end)[:10])
        lines.append(Text(f"{utc(start)} to {until} UTC, {duration((end - start) / 1e9)}"))
    lines += [
        Text(f"{printable(one.name)}: {one.completeness}.", "bold red")
        for one in found.info.recordings
        if one.state != "complete"
    ]
    return lines


def _verdict(found: Diagnosis) -> Text:
    counts = Counter(finding.severity for finding in found.findings)
    if not counts["critical"] + counts["warning"]:
        checked = len({check.id for check in found.checks if check.status != "not checked"})
        text = f"Nothing wrong here: {checked} kinds of trouble were looked for."
        return Text(text, "bold green")
    parts = [f"{counts['critical']} critical"] if counts["critical"] else []
    if counts["warning"]:
        parts.append(f"{counts['warning']} warning{'s' * (counts['warning'] > 1)}")
    return Text(f"Found: {' and '.join(parts)}. The most severe comes first.", "bold")


def _finding(console: Console, one: Finding, paths: Sequence[str], *, several: bool) -> None:
    label = f"{one.severity.upper()}  "
    where = f" [{one.recording}]" if several else ""
    _line(console, Text(label, _STYLE[one.severity]) + Text(printable(one.title + where), "bold"))
    console.print()
    _prose(console, one.meaning, 2)
    console.print()
    _prose(console, "Evidence", 2, "dim")
    for text in (*one.evidence, *one.notes):
        _item(console, "-", text)
    _raw(console, _command(paths, one.query), 4)
    console.print()
    _prose(console, "What to do", 2, "dim")
    for number, step in enumerate(one.remedy, 1):
        _item(console, f"{number}.", step.text)
        for command in step.commands:
            _raw(console, command, 7)
    console.print()
    _prose(console, "Fixed when", 2, "dim")
    _prose(console, one.proof.text, 4)
    for command in one.proof.commands:
        _raw(console, command, 4)


def _item(console: Console, mark: str, text: str) -> None:
    indent = 5 + len(mark)
    width = max(min(console.width, _WIDEST) - indent, 20)
    for number, line in enumerate(Text(printable(text)).wrap(console, width)):
        line.rstrip()
        head = f"    {mark} " if number == 0 else " " * indent
        console.print(Text(head) + line, soft_wrap=True)


def _command(paths: Sequence[str], sql: str) -> str:
    """Return the command that runs a query, quoted as people would."""
    plain = not any(character in sql for character in '"$`\\!')
    quoted = f'"{sql}"' if plain else shlex.quote(sql)
    return f"droptape query {shlex.join(paths)} {quoted}"


def _more(console: Console, full: Sequence[Finding], shown: Counter[str]) -> None:
    for rule, count in shown.items():
        if count <= _FULL:
            continue
        rest = [finding for finding in full if finding.id == rule][_FULL:]
        events = sum(finding.events for finding in rest)
        console.print()
        _prose(
            console,
            f"{count - _FULL} more findings like the last of {rule} ({events:,} events); "
            "--format json has all.",
            0,
            "bold",
        )


def _lesser(console: Console, lesser: Sequence[Finding]) -> None:
    console.print()
    _prose(console, "Also seen, no cause for alarm (--min-severity info tells more)", 0, "dim")
    for finding in lesser[:_LINES]:
        _item(console, "-", finding.title)
    if len(lesser) > _LINES:
        _item(console, "-", f"and {len(lesser) - _LINES} more")


def _checks(console: Console, found: Diagnosis) -> None:
    healthy = _unique(check for check in found.checks if check.status == "healthy")
    troubled = {check.id for check in found.checks if check.status != "healthy"}
    fine = [check for check in healthy if check.id not in troubled]
    if fine:
        console.print()
        _prose(console, "Checked and found healthy", 0, "dim")
        if found.at_least("warning"):
            _prose(console, ", ".join(check.id.replace("_", " ") for check in fine) + ".", 2)
        else:
            for check in fine:
                _item(console, "-", check.healthy)
    doubtful = [c for c in found.checks if c.status in ("partly", "not checked")]
    if doubtful:
        console.print()
        _prose(console, "Not sure about", 0, "dim")
    by_reason: dict[str, list[str]] = {}
    for check in doubtful:
        by_reason.setdefault(f"{check.status}: {check.why}", []).append(check.id.replace("_", " "))
    for why, names in by_reason.items():
        _item(console, "-", f"{', '.join(dict.fromkeys(names))}: {why.rstrip('.')}.")


def _unique(checks: Iterable[Check]) -> list[Check]:
    return list({check.id: check for check in checks}.values())


def _footer(console: Console, found: Diagnosis) -> None:
    commands = [c for f in found.at_least("warning") for s in f.remedy for c in s.commands]
    if any("sysctl -w" in command for command in commands):
        console.print()
        _prose(
            console,
            "sysctl -w holds until the next boot; put the same setting into a file below "
            "/etc/sysctl.d to keep it.",
            0,
            "dim",
        )
    if found.info.not_compared:
        _prose(console, found.info.not_compared, 0, "dim")
    for problem in found.info.problems:
        _prose(console, f"Not readable: {problem}", 0, "bold red")
