"""The answer in one screen (80 columns, 40 lines)."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from droptape.analyze.info import RecordingInfo
from droptape.analyze.plain import printable
from droptape.analyze.summary import Summary

from .words import duration, loss, offset, rate, sparkline, utc

_LABELS = {"listen": "refused (listen)"}
_CURVE = 24
_MARKS = 6


def show(console: Console, summary: Summary) -> None:
    """Print `summary`."""
    for line in _head(summary):
        console.print(line)
    console.print()
    if not summary.events:
        console.print(Text("Nothing was dropped, retransmitted, refused or reset.", "bold green"))
    else:
        console.print(_headline(summary))
        console.print()
        for table in (_kinds(summary), _causes(summary), _owners(summary)):
            console.print(table)
            console.print()
    if summary.marks:
        console.print(_marks(summary))
        console.print()
    for line in _completeness(summary):
        console.print(line)


def _head(summary: Summary) -> list[Text]:
    recordings = summary.info.recordings
    start, end = summary.info.span_ns
    lines: list[Text] = []
    for one in recordings[:3]:
        where = f"{one.host.name}, Linux {one.host.kernel}" if one.host else "host unknown"
        line = Text(printable(one.name), "bold") + Text(f"  {printable(where)}", "default")
        lines.append(line)
    if len(recordings) > 3:
        lines.append(Text(f"and {len(recordings) - 3} more recordings", "bold"))
    if start:
        until = utc(end, date=utc(start)[:10] != utc(end)[:10])
        lines.append(Text(f"{utc(start)} to {until} UTC, {duration((end - start) / 1e9)}"))
    return lines


def _headline(summary: Summary) -> Text:
    first = summary.causes[0]
    where = f" in {first['function']}" if first["function"] else ""
    start = summary.info.origin_ns
    since = f", since {offset(first['since_ns'], start)}" if first["since_ns"] else ""
    text = f"Most: {_kind(first['kind'])} {first['cause'] or 'without a cause'}{where}, "
    text += f"{first['events']:,} times{since}."
    known = next((row for row in summary.owners if row["owner"]), None)
    if known:
        at = f" on port {known['port']}" if known["port"] else ""
        text += f" Most affected: {_owner(known)}{at}."
    return Text(printable(text), "bold yellow")


def _kind(kind: str) -> str:
    return _LABELS.get(kind, kind)


def _grid(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim",
        title=title, title_justify="left", title_style="bold",
    )  # fmt: skip
    for name, justify in columns:
        table.add_column(
            name,
            justify="right" if justify == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _kinds(summary: Summary) -> Table:
    start = summary.info.origin_ns
    table = _grid(
        "WHAT HAPPENED", ("kind", ""), ("events", "right"), ("per s", "right"), ("since", "right"),
        ("until", "right"), ("over time", ""),
    )  # fmt: skip
    for kind in summary.kinds:
        if kind["events"] == 0:
            table.add_row(_kind(kind["kind"]), "none")
            continue
        table.add_row(
            _kind(kind["kind"]),
            f"{kind['events']:,}",
            rate(kind["per_second"]),
            offset(kind["since_ns"], start),
            offset(kind["until_ns"], start),
            sparkline(kind["buckets"], _CURVE),
        )
    return table


def _causes(summary: Summary) -> Table:
    start = summary.info.origin_ns
    table = _grid(
        _title("WHY", len(summary.causes), summary.cause_count), ("kind", ""), ("cause", ""),
        ("kernel function", ""), ("events", "right"), ("of kind", "right"), ("since", "right"),
    )  # fmt: skip
    for row in summary.causes:
        table.add_row(
            row["kind"],
            Text(printable(row["cause"] or "not given")),
            Text(printable(row["function"] or "-")),
            f"{row['events']:,}",
            f"{row['share']:.1f} %",
            offset(row["since_ns"], start),
        )
    return table


def _owners(summary: Summary) -> Table:
    start = summary.info.origin_ns
    table = _grid(
        _title("TO WHOM", len(summary.owners), summary.owner_count), ("process", ""),
        ("port", "right"), ("container", ""), ("events", "right"), ("mostly", ""),
        ("since", "right"),
    )  # fmt: skip
    for row in summary.owners:
        table.add_row(
            Text(printable(_owner(row))),
            str(row["port"] or "-"),
            Text(printable(row["container"] or "-")),
            f"{row['events']:,}",
            Text(printable(row["cause"] or "-")),
            offset(row["since_ns"], start),
        )
    return table


def _marks(summary: Summary) -> Text:
    start = summary.info.origin_ns
    texts = [f"{offset(m.ts_ns, start)} {printable(m.text)}" for m in summary.marks[:_MARKS]]
    more = len(summary.marks) - _MARKS
    return Text("Marks: ", "bold") + Text(
        "; ".join(texts) + (f"; and {more} more" if more > 0 else ""), "default"
    )


def _title(title: str, shown: int, found: int) -> str:
    return f"{title} (the first {shown} of {found})" if found > shown else title


def _owner(row: dict[str, Any]) -> str:
    if not row["owner"] and row["pid"] is None:
        return "no process known"
    return f"{row['owner'] or '?'}[{row['pid'] if row['pid'] is not None else '?'}]"


def _completeness(summary: Summary) -> list[Text]:
    bad = "bold red"
    lines = [
        Text(f"{_named(summary, one)}{one.completeness}.", bad)
        for one in summary.info.recordings
        if one.state != "complete"
    ]
    lines += [Text(loss(x["kind"], x["cause"], x["events"]), bad) for x in summary.losses]
    if summary.unaccounted:
        lines.append(
            Text(
                f"{summary.unaccounted:,} events were counted but are neither recorded nor "
                "reported lost.",
                bad,
            )
        )
    said, good = summary.completeness
    if said:
        lines.append(Text(said, "green" if good else bad))
    if summary.unbalanced:
        first = summary.unbalanced[0]
        text = f"The books do not balance: the kernel counted {first.subject} {first.counted:,}, "
        text += f"{first.recorded:,} were recorded. `droptape verify` has all differences."
        lines.append(Text(printable(text), bad))
    for one in summary.info.recordings:
        for probe in one.missing_probes:
            why = f": {probe.note}" if probe.note else ""
            lines.append(
                Text(printable(f"{_named(summary, one)}not seen: {probe.name}{why}."), bad)
            )
        if one.complete_from_ns is not None:
            since = utc(one.complete_from_ns)
            text = f"Rows from before {since} were removed to keep the disk budget."
            lines.append(Text(f"{_named(summary, one)}{text}"))
        lines.extend(Text(printable(f"{_named(summary, one)}{note}")) for note in one.notes)
    if summary.benign:
        lines.append(
            Text(
                f"Beside these, {summary.benign:,} drops that healthy systems have, only counted.",
                "dim",
            )
        )
    lines.extend(
        Text(printable(f"Not readable: {problem}"), bad) for problem in summary.info.problems
    )
    return lines


def _named(summary: Summary, one: RecordingInfo) -> str:
    return f"{one.name}: " if len(summary.info.recordings) > 1 else ""
