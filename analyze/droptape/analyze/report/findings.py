"""What is wrong, for the head of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gather import FINDINGS, Gathered
from .html import Html, code, join, long_text, query, table, text

if TYPE_CHECKING:
    from droptape.analyze.diagnosis.findings import Finding, Step


_SERIOUS = ("critical", "warning")
_UNFOLDED = 2
"""So many of the findings show everything at once; the others when they are clicked."""


def findings(found: Gathered) -> Html:
    """Return the findings, the most severe first, after them what was checked and found well."""
    shown = found.diagnosis.findings[:FINDINGS]
    serious = [one for one in shown if one.severity in _SERIOUS]
    lesser = [one for one in shown if one.severity not in _SERIOUS]
    cards = [_finding(one, n, found, n < _UNFOLDED) for n, one in enumerate(serious)]
    if not cards:
        cards = [_headline(found)]
    if lesser:
        folded = join(_finding(one, n + FINDINGS, found, False) for n, one in enumerate(lesser))
        noun = "thing is" if len(lesser) == 1 else "things are"
        cards.append(
            Html(
                f"<details><summary>{len(lesser)} more {noun} worth knowing</summary>"
                f"{folded}</details>"
            )
        )
    more = len(found.diagnosis.findings) - len(shown)
    if more > 0:
        cards.append(Html(f'<p class="hint">{more:,} more: <code>droptape diagnose</code>.</p>'))
    return join([*cards, _checks(found)])


def _headline(found: Gathered) -> Html:
    """Return what there is to say when no rule found anything."""
    summary = found.summary
    if not summary.events or not summary.causes:
        return _card("good", "Nothing was dropped, retransmitted, refused or reset", Html(""))
    first = summary.causes[0]
    where = f" in {first['function']}" if first["function"] else ""
    line = (
        f"{first['kind']}, {first['cause'] or 'no cause given'}{where}: {first['events']:,} times."
    )
    return _card(
        "good", "No rule found anything wrong", Html(f"<p>Most frequent: {text(line)}</p>")
    )


def _card(mood: str, title: str, body: Html) -> Html:
    return Html(f'<article class="finding {text(mood)}"><h3>{text(title)}</h3>{body}</article>')


def _folding(mood: str, title: str, body: Html, unfolded: bool) -> Html:
    return Html(
        f'<details class="finding {text(mood)}"{" open" if unfolded else ""}><summary>'
        f'<span class="badge">{text(mood)}</span><b>{text(title)}</b></summary>{body}</details>'
    )


def _finding(one: Finding, number: int, found: Gathered, unfolded: bool) -> Html:
    parts = [f"<p>{long_text(one.meaning)}</p>"]
    lines = list(one.evidence)
    if len(found.summary.info.recordings) > 1:
        lines.append(f"In {one.recording}.")
    parts.append(f"<ul>{join(f'<li>{long_text(line)}</li>' for line in lines)}</ul>")
    steps = join(_step(step, f"{number}-{i}") for i, step in enumerate(one.remedy))
    proof = _step(one.proof, f"{number}-proof", "Proof that it is fixed: ")
    is_open = " open" if unfolded else ""
    parts.append(f"<details{is_open}><summary>What to do</summary>{steps}{proof}</details>")
    parts += [f'<p class="small">{long_text(note)}</p>' for note in one.notes]
    if one.query:
        parts.append(query(one.query, f"finding-{number}"))
    return _folding(one.severity, one.title, join(parts), unfolded)


def _step(step: Step, name: str, before: str = "") -> Html:
    commands = "\n".join(step.commands)
    return Html(
        f"<p><b>{before}</b>{long_text(step.text)}</p>"
        f"{code(commands, f'step-{name}') if commands else ''}"
    )


def _checks(found: Gathered) -> Html:
    rows = [(c.title, c.status, c.why or c.healthy, c.recording) for c in found.diagnosis.checks]
    if not rows:
        return Html("")
    well = sum(row[1] == "healthy" for row in rows)
    shown = table("checks", "All rules", ("Looked for", "Result", "Why", "Recording"), rows)
    return Html(
        f"<details><summary>{len(rows)} things were checked, {well} found healthy"
        f"</summary>{shown}</details>"
    )
