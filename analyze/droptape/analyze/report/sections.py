"""The parts of the page that are text and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from droptape.analyze.render.words import duration, loss, rate, utc
from droptape.analyze.verify.finding import Verdict

from .gather import FINDINGS, LISTENERS, Gathered
from .html import Html, join, table, text
from .pictures import LIGHT


def facts(found: Gathered) -> Html:
    """Return what was recorded, where and when, for the head of the page."""
    info = found.summary.info
    start, end = info.span_ns
    pairs: list[tuple[str, Any]] = [
        ("Recording" if len(info.recordings) == 1 else "Recordings", _names(found))
    ]
    hosts = {one.host.name: one.host for one in info.recordings[:8] if one.host}
    pairs += [("Host", f"{h.name}, Linux {h.kernel}, {h.architecture}") for h in hosts.values()]
    if start:
        pairs.append(("Time (UTC)", f"{utc(start)} to {utc(end)}"))
        pairs.append(("Length", duration((end - start) / 1e9)))
    return join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs)


def _names(found: Gathered) -> str:
    names = [one.name for one in found.summary.info.recordings]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def tiles(found: Gathered, colors: dict[str, int]) -> Html:
    """Return one tile for each kind of event."""
    return join(
        f'<div class="tile kind-{colors.get(kind["kind"], 0)}"><span>{text(kind["kind"])}</span>'
        f"<b>{text(kind['events'])}</b><span>{_rate(kind['per_second'])}</span>{_lost(kind)}</div>"
        for kind in found.summary.kinds
    )


def _rate(per_second: float | None) -> Html:
    return text("none" if not per_second else f"{rate(per_second)} per second")


def _lost(kind: dict[str, Any]) -> str:
    lost = kind["lost"] + kind["unaccounted"]
    return f'<span class="bad">{lost:,} of them not in rows</span>' if lost else ""


def legend(colors: dict[str, int]) -> Html:
    """Return which colour is which kind."""
    return join(f'<li class="kind-{number}">{text(kind)}</li>' for kind, number in colors.items())


def colors(kinds: list[str]) -> dict[str, int]:
    """Give each kind a colour."""
    return {kind: number % len(LIGHT) for number, kind in enumerate(kinds)}


# --- tables --------------------------------------------------------------------------------------


def queues(found: Gathered) -> Html:
    """Return the listening sockets and how full their queues were."""
    if not found.queues.rows:
        return Html("<p>No listening socket was sampled.</p>")
    rows = [
        (
            f"{row['laddr']}:{row['lport']}", row["owner"], row["container"], row["namespace"],
            row["backlog"], row["most"], row["refused"], row["recording"],
        )
        for row in found.queues.rows
    ]  # fmt: skip
    heads = (
        "Listens on", "Process", "Container", "Namespace", "Limit (backlog)", "Most waiting",
        "Refused", "Recording",
    )  # fmt: skip
    caption = _caption("Listening sockets", len(rows), found.queues.found, LISTENERS)
    return table("listeners", caption, heads, rows, numeric=(4, 5, 6))


def functions(found: Gathered) -> Html:
    """Return the kernel functions with exact counts."""
    if not found.functions.rows:
        return Html("<p>No kernel function was counted.</p>")
    rows = [
        (
            row["function"] or "unknown",
            f"+{row['offset']:#x}" if row["offset"] is not None else "several places",
            row["module"] or "kernel", row["kind"], row["cause"], row["events"], row["recorded"],
        )
        for row in found.functions.rows
    ]  # fmt: skip
    heads = ("Function", "Offset", "Module", "Kind", "Cause", "Events (exact)", "In rows")
    caption = _caption("Kernel functions", len(rows), found.functions.found)
    return table("kernel-functions", caption, heads, rows, numeric=(5, 6))


def _caption(what: str, shown: int, found: int, limit: int = 0) -> str:
    del limit
    return f"{what} (the first {shown:,} of {found:,})" if found > shown else what


def completeness(found: Gathered) -> Html:
    """Return what is missing, and what was checked."""
    summary = found.summary
    parts = [f"<ul>{join(_gaps(found))}</ul>"]
    if summary.losses:
        rows = [
            (x["kind"], (x["cause"] or "").replace("_", " "), x["events"]) for x in summary.losses
        ]
        parts.append(table("losses", "Losses", ("Kind", "Why", "Events"), rows, numeric=(2,)))
    probes = [
        (probe.name, "yes" if probe.attached else "no", probe.mechanism, probe.note, one.name)
        for one in summary.info.recordings
        for probe in one.probes
    ]
    heads = ("Hook", "Live", "Mechanism", "Note", "Recording")
    shown = table("probes", "Hooks of the recorder", heads, probes)
    parts.append(f"<details><summary>{len(probes)} hooks in the kernel</summary>{shown}</details>")
    return join(parts)


def _gaps(found: Gathered) -> Iterator[Html]:
    summary = found.summary
    bad = '<li class="bad">{}</li>'.format
    for one in summary.info.recordings:
        if one.state != "complete":
            yield Html(bad(text(f"{one.name}: {one.completeness}.")))
        for probe in one.missing_probes:
            yield Html(bad(text(f"Not seen: {probe.name}: {probe.note}")))
        yield from (Html(f"<li>{text(note)}</li>") for note in one.notes)
    for lost in summary.losses:
        yield Html(bad(text(loss(lost["kind"], lost["cause"], lost["events"]))))
    if summary.unaccounted:
        yield Html(bad(text(f"{summary.unaccounted:,} events were counted but are in no row.")))
    said, good = summary.completeness
    if said:
        yield Html(f'<li class="fine">{text(said)}</li>' if good else bad(text(said)))
    if summary.info.not_compared and not good:
        yield Html(f"<li>{text(summary.info.not_compared)}</li>")
    yield from (Html(bad(text(problem))) for problem in summary.info.problems[:FINDINGS])
    if summary.benign:
        yield Html(
            f"<li>Beside these, {summary.benign:,} drops that healthy systems have, only counted."
            "</li>"
        )
    yield _verified(found)


def _verified(found: Gathered) -> Html:
    if found.verification is None:
        return Html("<li>Too large to verify here: <code>droptape verify</code> does.</li>")
    wrong = found.verification.unexplained
    if not wrong:
        compared = [f for f in found.verification.findings if f.verdict is not Verdict.NOT_CHECKED]
        return Html(
            '<li class="fine">Verified: the files are whole, and the events agree with the '
            f"kernel's own counters ({len(compared)} comparisons).</li>"
        )
    items = join(
        f"<li>{text(f.recording)}: {text(f.subject)}: {text(f.why or 'differs')}</li>"
        for f in wrong[:FINDINGS]
    )
    return Html(f'<li class="bad">Verified, with differences:<ul>{items}</ul></li>')


def host(found: Gathered) -> Html:
    """Return the machine and its settings."""
    parts: list[str] = []
    for one in found.summary.info.recordings[:FINDINGS]:
        if one.host is None:
            continue
        pairs: list[tuple[str, Any]] = [
            ("Host", one.host.name), ("System", one.host.os), ("Kernel", one.host.kernel),
            ("Architecture", one.host.architecture), ("Processors", one.host.cpus),
            ("Recorder", one.recorder_version), ("Ended by", one.ended_by),
        ]  # fmt: skip
        items = join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs)
        parts.append(f'<dl class="facts">{items}</dl>')
    if found.sysctls.rows:
        rows = [
            (
                row["name"], row["value"], row["namespaces"], row["example"],
                "changed" if row["changed"] else "", row["recording"],
            )
            for row in found.sysctls.rows
        ]  # fmt: skip
        heads = ("Setting", "Value", "Namespaces", "One of them", "While recorded", "Recording")
        caption = _caption("Kernel settings", len(rows), found.sysctls.found)
        parts.append(table("settings", caption, heads, rows, numeric=(2,)))
    return join(parts)


def marks(found: Gathered) -> Html:
    """Return what users wrote into the recording."""
    if not found.marks:
        return Html("")
    rows = [((f"+{ms / 1000:.3f} s", ms), note) for ms, note in found.marks]
    return table("marks", "Marks", ("When", "Text"), rows, numeric=(0,))


def cut(found: Gathered) -> Html:
    """Say what the pictures put together."""
    counted = found.cube
    if not counted.together:
        return Html("")
    return text(
        Html(
            '<p class="hint" id="cut">'
            f"Shown one by one: the {counted.shown:,} most frequent of {counted.found:,} "
            f"combinations of cause, process and place. The others, {counted.together:,} of "
            f"{counted.total:,} events, are put together by cause as “(others)”.</p>"
        )
    )
