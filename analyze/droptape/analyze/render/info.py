"""What a recording is, as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from droptape.analyze.clocks import ClockMove
from droptape.analyze.info import Info, RecordingInfo
from droptape.analyze.plain import aligned, printable

from .words import duration, offset, size, utc


def show(console: Console, info: Info) -> None:
    """Print `info`."""
    for number, one in enumerate(info.recordings):
        if number:
            console.print()
        console.print(Text(printable(one.name), "bold"))
        for label, value in _facts(one):
            console.print(Text(f"  {label:<10} {printable(value)}"), soft_wrap=True)
        console.print()
        for line in _tables(one):
            console.print(Text(f"  {line}"), soft_wrap=True)
    if info.problems or info.not_compared:
        console.print()
    if info.not_compared:
        console.print(Text(info.not_compared), soft_wrap=True)
    for problem in info.problems:
        console.print(Text(f"not readable: {printable(problem)}", "bold red"), soft_wrap=True)


def _facts(one: RecordingInfo) -> Iterator[tuple[str, str]]:
    yield "folder", one.path
    if one.host:
        host = one.host
        yield "host", f"{host.name}, {host.os}" if host.os else host.name
        yield "kernel", f"Linux {host.kernel}, {host.architecture}, {host.cpus} processors"
    if one.started_ns is not None and one.ended_ns is not None:
        yield "time", f"{utc(one.started_ns)} to {utc(one.ended_ns)} UTC, {duration(one.seconds)}"
    ended = f" ({one.ended_by})" if one.ended_by else ""
    yield "state", one.completeness + ended
    if one.complete_from_ns is not None:
        yield "removed", removed(one)
    yield from _losses(one)
    for number, probe in enumerate(one.probes):
        how = (
            probe.mechanism or "live" if probe.attached else f"missing: {probe.note or 'no reason'}"
        )
        note = f" ({probe.note})" if probe.attached and probe.note else ""
        yield "" if number else "probes", f"{probe.name}: {how}{note}"
    for move in one.clock_moves:
        yield "clock", _clock_move(move)
    for note in one.notes:
        yield "note", note


def _clock_move(move: ClockMove) -> str:
    when, took = f"{utc(move.at_ns)} UTC", duration(abs(move.by_ns) / 1e9)
    if move.kind == "asleep":
        slept = f"the host was suspended for {took}, until {when}"
        return f"{slept}; what came right before it may be dated after it"
    way = "forward" if move.by_ns > 0 else "back"
    return f"set {way} by {took} at {when}; what came before is dated by the clock as it was"


def removed(one: RecordingInfo) -> str:
    """Say what went to keep a disk budget."""
    rows = ", ".join(f"{part.rows:,} {table}" for table, part in one.removed.items())
    begin = min(part.first_ns for part in one.removed.values())
    assert one.complete_from_ns is not None
    return (
        f"{rows} from {utc(begin)} on, to keep the disk budget; what follows is from "
        f"{utc(one.complete_from_ns)} UTC on"
    )


def _losses(one: RecordingInfo) -> Iterator[tuple[str, str]]:
    lost = [
        f"{count:,} {kind} ({cause.replace('_', ' ')})"
        for kind, causes in one.losses.items()
        for cause, count in causes.items()
        if count
    ]
    yield "lost", ", ".join(lost) or "nothing"


def _tables(one: RecordingInfo) -> Iterator[str]:
    start = one.started_ns or 0
    names = ["table", "rows", "not sealed", "files", "size", "first", "last"]
    columns: list[list[str]] = [[] for _ in names]
    for table in one.tables:
        row = (
            table.name, f"{table.rows:,}", f"{table.journal_rows:,}", f"{table.files:,}",
            size(table.bytes), offset(table.first_ns, start), offset(table.last_ns, start),
        )  # fmt: skip
        for column, text in zip(columns, row, strict=True):
            column.append(text)
    return aligned(names, columns, [False, *[True] * 6], markdown=False)
