"""Results, and the table that shows them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

_COLUMNS = ("what", "ours", "against", "ratio", "spread", "goal", "met")


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratios of interleaved pairs: ours divided by the other.

    Attributes:
        middle: The median.
        low: The lower quartile.
        high: The upper quartile.
        pairs: How many pairs there were.
    """

    middle: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, ours: Sequence[float], others: Sequence[float]) -> Ratio:
        """Compare measurements that were made in turn, pair by pair."""
        ratios = sorted(a / b for a, b in zip(ours, others, strict=True) if b)
        if not ratios:
            raise ValueError("nothing to compare with")
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0], 1)
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(middle, low, high, len(ratios))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        ours: The value, with its unit.
        against: The peer or floor, and its value; "" without one.
        ratio: Ours to the other, from interleaved pairs.
        goal: What is to be reached; "" where nothing is.
        met: Whether it is.
        note: A sentence that belongs to the row.
    """

    what: str
    ours: str
    against: str = ""
    ratio: Ratio | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The texts of `_COLUMNS`."""
        ratio = spread = ""
        if self.ratio is not None:
            digits = 3 if 0.5 < self.ratio.middle < 2 else 2
            ratio = f"{self.ratio.middle:.{digits}f}"
            spread = f"{self.ratio.low:.{digits}f} to {self.ratio.high:.{digits}f}"
        met = "" if self.met is None else "yes" if self.met else "NO"
        return (self.what, self.ours, self.against, ratio, spread, self.goal, met)


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure.

    Attributes:
        quick: A run for a first look.
        events: Events of the analysis benchmark; 0: as many as there is room for.
        soak_s: Length of the soak; 0 leaves it out.
        crashes_s: How long to go on killing recorders.
    """

    quick: bool = False
    events: int = 0
    soak_s: float = 0
    crashes_s: float = 120

    def pick(self, full: int, quick: int) -> int:
        """Return the amount for this kind of run."""
        return quick if self.quick else full


Measure = Callable[[Options], list[Row]]


@dataclass(slots=True)
class Part:
    """One script: its rows, or why there are none."""

    name: str
    rows: list[Row] = field(default_factory=list)
    problem: str = ""
    seconds: float = 0.0


def perform(name: str, measure: Measure, options: Options) -> Part:
    """Run one script."""
    part = Part(name)
    start = time.monotonic()
    try:
        part.rows = measure(options)
    except Exception as exc:  # noqa: BLE001  The others still have something to say.
        part.problem = f"{type(exc).__name__}: {exc}"
    part.seconds = time.monotonic() - start
    return part


def _notes(parts: Sequence[Part]) -> list[str]:
    notes = [f"{row.what}: {row.note}" for part in parts for row in part.rows if row.note]
    return notes + [f"{part.name} failed: {part.problem}" for part in parts if part.problem]


def as_text(parts: Sequence[Part]) -> str:
    """Lay the rows out for a terminal."""
    lines = [_COLUMNS, *(row.cells() for part in parts for row in part.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
    out = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
           for line in lines]  # fmt: skip
    out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*out, *(f"* {note}" for note in _notes(parts))])


def as_markdown(parts: Sequence[Part]) -> str:
    """Lay the rows out for the README."""
    lines = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    lines += [row.cells() for part in parts for row in part.rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    notes = _notes(parts)
    return "\n".join([*text, *([""] if notes else []), *(f"- {note}" for note in notes)])


def as_json(parts: Sequence[Part], machine: str) -> str:
    """Return everything as JSON."""
    return json.dumps({"machine": machine, "parts": [asdict(part) for part in parts]}, indent=1)
