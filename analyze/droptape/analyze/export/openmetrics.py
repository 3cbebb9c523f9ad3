"""Counters in the OpenMetrics text format, with timestamps.

``promtool tsdb create-blocks-from openmetrics FILE`` makes blocks of it for a Prometheus that did
not watch the host at the time. Counts are the kernel's exact ones, from 0 at the recording's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO

from droptape.analyze.plain import printable

from . import questions
from .questions import Written

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

Row = dict[str, Any]
Labels = tuple[tuple[str, str], ...]

_SECOND = 1_000_000_000
STALE = 60 * _SECOND
"""A series that does not move is repeated so often, or Prometheus forgets it after 5 minutes."""

_EVENT_LABELS = ("recording", "kind", "cause", "function", "protocol", "netns", "netns_name")


def write(rec: Recording, out: TextIO, max_events: int) -> Written:
    """Write all families; `max_events` does not matter, because nothing here is an event."""
    del max_events
    ranges = {r.name: (r.started_ns or 0, r.ended_ns or 0) for r in rec.info().recordings}
    samples = 0

    def family(name: str, kind: str, text: str, lines: Iterable[str]) -> None:
        nonlocal samples
        out.write(f"# TYPE {name} {kind}\n# HELP {name} {text}\n")
        for line in lines:
            out.write(line)
            samples += 1

    family("droptape_recording", "info", "What was recorded.", _infos(rec))
    family(
        "droptape_events", "counter",
        "Drops, retransmitted segments, refused connections, resets, as the kernel counted them.",
        _counted("droptape_events", questions.counts(rec), _event_labels, ranges),
    )  # fmt: skip
    family(
        "droptape_lost_events", "counter", "Events that are counted and could not be recorded.",
        _counted("droptape_lost_events", questions.losses(rec), _loss_labels, ranges),
    )  # fmt: skip
    for column, text in (
        ("waiting", "Connections that wait to be accepted."),
        ("limit", "Connections that may wait to be accepted."),
    ):
        name = f"droptape_accept_queue_{column}"
        family(name, "gauge", text, _gauged(name, questions.queues(rec), column))
    out.write("# EOF\n")
    return Written(samples)


def _infos(rec: Recording) -> Iterator[str]:
    for one in rec.info().recordings:
        labels: Labels = (("recording", _text(one.name)), ("id", _text(one.id)))
        if one.host is not None:
            labels += (("host", _text(one.host.name)), ("kernel", _text(one.host.kernel)))
        yield _line("droptape_recording_info", labels, 1, one.started_ns or 0)


def _counted(
    name: str,
    rows: Iterator[Row],
    labels_of: Callable[[Row], Labels],
    ranges: dict[str, tuple[int, int]],
) -> Iterator[str]:
    for (recording, labels), series in groupby(rows, lambda r: (r["recording"], labels_of(r))):
        start, end = ranges[recording]
        for at, value in _cumulated(((row["at_ns"], row["events"]) for row in series), start, end):
            yield _line(f"{name}_total", labels, value, at)


def _cumulated(steps: Iterable[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Add up what was counted in intervals of a second.

    Between two intervals the value stands still: it is said again just before it moves, so that
    rate() shows the second and not a slow rise, and every `STALE`.
    """
    value, last = 0, None
    for at, events in steps:
        before = at - _SECOND
        if last is None:
            last = min(start, before)
            yield last, 0
        yield from ((t, value) for t in range(last + STALE, before, STALE))
        if before - last > _SECOND // 2:
            yield before, value
        value += events
        last = max(at, last + 1)
        yield last, value
    if last is not None:
        yield from ((t, value) for t in range(last + STALE, end, STALE))
        if end > last:
            yield end, value


def _gauged(name: str, rows: Iterator[Row], column: str) -> Iterator[str]:
    for labels, series in groupby(rows, _queue_labels):
        for row in series:
            yield _line(name, labels, row[column], row["at_ns"])


def _event_labels(row: Row) -> Labels:
    labels = tuple((n, _text(row[n])) for n in _EVENT_LABELS if row[n] is not None)
    return (*labels, ("benign", "true" if row["benign"] else "false"))


def _loss_labels(row: Row) -> Labels:
    return tuple((n, _text(row[n])) for n in ("recording", "kind", "cause"))


def _queue_labels(row: Row) -> Labels:
    columns = ("recording", "netns", "laddr", "lport", "owner")
    return tuple((n, _text(row[n])) for n in columns if row[n] is not None)


def _text(value: object) -> str:
    return printable(str(value))


def _line(name: str, labels: Labels, value: int, at_ns: int) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{shown}}} {value} {at_ns // _SECOND}.{at_ns % _SECOND // 1_000_000:03d}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
