"""What a report says beside its pictures: findings, listeners, functions, settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from droptape.analyze.diagnosis import Diagnosis
from droptape.analyze.marks import marks_of
from droptape.analyze.sqlfiles import load
from droptape.analyze.summary import Summary
from droptape.analyze.verify import Verification

from .cube import Cube, cube

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

LISTENERS, CURVES, FUNCTIONS, SYSCTLS, FINDINGS, MARKS = 60, 6, 60, 600, 40, 50
"""Rows at most: of listeners (so many of them drawn), functions, settings, findings, marks."""
CHEAP_BYTES = 64 << 20
"""Recordings up to this size are verified for the report."""

_NOBODY = (
    "SELECT NULL::VARCHAR AS recording, NULL::BIGINT AS netns, NULL::INTEGER AS lport, "
    "0 AS refused WHERE false"
)
_REFUSED = (
    "SELECT recording, netns, lport, sum(weight) AS refused FROM listen "
    "WHERE lport IS NOT NULL GROUP BY recording, netns, lport"
)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one question, and how many there are in all."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    found: int = 0


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything on the page.

    Attributes:
        summary: what the terminal shows.
        cube: what the pictures are counted from.
        diagnosis: findings by rules, the findings of the rules.
        queues: listeners with the depth of their queues over time.
        functions: kernel functions with exact totals.
        sysctls: settings.
        verification: None when the recording is too large to look at all of it.
        marks: offset from the start (ms) and text of what users wrote in.
    """

    summary: Summary
    cube: Cube
    diagnosis: Diagnosis
    queues: Found
    functions: Found
    sysctls: Found
    verification: Verification | None
    marks: list[tuple[float, str]]


def gather(rec: Recording) -> Gathered:
    """Ask `rec` everything that the page shows."""
    counted = cube(rec)
    parts = {
        "origin": str(counted.origin_ns),
        "width": str(counted.width_ns),
        "refused": _REFUSED if "listen" in rec.views else _NOBODY,
    }
    small = sum(t.bytes for s in rec.sources for t in s.tables.values()) <= CHEAP_BYTES
    zero = rec.info().origin_ns or counted.origin_ns
    marks = [((mark.ts_ns - zero) / 1e6, mark.text) for mark in marks_of(rec)[:MARKS]]
    return Gathered(
        rec.summary(),
        counted,
        rec.diagnose(),
        _ask(rec, "report_queues", "listeners", LISTENERS, **parts),
        _ask(rec, "report_functions", "totals", FUNCTIONS),
        _ask(rec, "report_sysctls", "sysctls", SYSCTLS),
        rec.verify() if small else None,
        marks,
    )


def _ask(rec: Recording, file: str, table: str, limit: int, **parts: str) -> Found:
    if table not in rec.views:
        return Found()
    sql = load(file, limit=str(limit), **parts)
    rows = rec.connection.sql(sql).to_arrow_table().to_pylist()
    return Found(rows, rows[0]["found"] if rows else 0)
