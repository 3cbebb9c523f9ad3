"""Recordings in the formats of other tools.

`perfetto` is a timeline for Perfetto's UI, `openmetrics` counters for a Prometheus that did not
scrape the host at the time. `questions` asks what both need.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import duckdb

from droptape.analyze.errors import QueryError
from droptape.analyze.targets import destination

from . import openmetrics, perfetto
from .questions import Written

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

MAX_EVENTS = 200_000
"""Events of a timeline: about 60 MB, which Perfetto's UI opens in seconds."""


class ExportFormat(str, Enum):
    """What `Recording.export` can write."""

    PERFETTO = "perfetto"
    OPENMETRICS = "openmetrics"


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Attributes:
        format: in which format.
        items: events of a timeline, or samples of counters.
        every: of how many events a timeline has one; 1 when all are there.
        note: what a reader must know, in one sentence, or "".
    """

    format: ExportFormat
    items: int
    every: int
    note: str


_WRITERS: dict[ExportFormat, Callable[[Recording, TextIO, int], Written]] = {
    ExportFormat.PERFETTO: perfetto.write,
    ExportFormat.OPENMETRICS: openmetrics.write,
}


def export(
    rec: Recording, to: ExportFormat | str, output: str | os.PathLike[str] | None, max_events: int
) -> Export:
    """See `Recording.export`."""
    try:
        form = ExportFormat(to)
    except ValueError:
        known = ", ".join(known.value for known in ExportFormat)
        raise QueryError(f"there is no export to {to}; there are: {known}") from None
    if max_events < 1:
        raise QueryError("an export needs room for at least one event")
    try:
        with destination(Path(output) if output is not None else None) as out:
            written = _WRITERS[form](rec, out, max_events)
    except duckdb.Error as exc:
        raise rec.explain(exc) from exc
    note = ""
    if written.every > 1:
        note = (
            f"one of {written.every} events was taken, so that no more than {max_events:,} are "
            "written; the counts per second are exact"
        )
    return Export(form, written.items, written.every, note)
