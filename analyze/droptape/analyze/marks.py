"""What users wrote into recordings while they were made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.tables import MARKS

from .source import Source
from .times import Landmarks, Mark, Window

if TYPE_CHECKING:
    from .recording import Recording

MOST = 100_000
"""Marks that are looked at."""


def read_marks(sources: Iterable[Source]) -> list[Mark]:
    """Return the marks of recordings, oldest first; files that cannot be read are left out."""
    found: list[Mark] = []
    for source in sources:
        stored = source.tables.get(MARKS.name)
        for path in stored.sealed if stored else []:
            try:
                rows = pq.read_table(path, columns=["ts_ns", "text", "source"]).to_pylist()
            except (pa.ArrowException, OSError, ValueError):
                continue
            found += [
                Mark(row["ts_ns"], row["text"] or "", row["source"] or "", source.name)
                for row in rows
                if isinstance(row["ts_ns"], int) and len(found) < MOST
            ]
    return sorted(found)


def marks_of(rec: Recording) -> list[Mark]:
    """Return the marks in the span of time that is asked, oldest first."""
    window = rec.window or Window()
    return [
        mark
        for mark in rec.origin.marks()
        if (window.start is None or mark.ts_ns >= window.start)
        and (window.end is None or mark.ts_ns < window.end)
    ]


def landmarks(sources: Sequence[Source]) -> Landmarks:
    """Return what times in these recordings can be relative to."""
    known = [source.manifest for source in sources if source.manifest is not None]
    ends = [m.ended_ns for m in known if m.ended_ns is not None]
    if any(source.running for source in sources):
        ends.append(time.time_ns())
    whole = len(known) == len(sources)
    return Landmarks(
        min((m.started_ns for m in known), default=None) if whole else None,
        max(ends, default=None) if len(ends) >= len(sources) else None,
        read_marks(sources),
    )
