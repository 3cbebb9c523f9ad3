"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """How one comparison came out."""

    OK = "ok"
    EXPLAINED = "explained"
    NOT_CHECKED = "not checked"
    UNEXPLAINED = "unexplained"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison.

    Attributes:
        recording: short name.
        part: ``files``, ``counters`` (the kernel's against the rows), ``totals`` (our own exact
            ones against the rows), ``losses``.
        subject: what was compared: a file, the kernel's counters, or a kind of event.
        netns: where; None for all or none.
        counted: by the kernel, or by the totals.
        recorded: in rows.
        lost: not in rows, and the totals say so.
        verdict: whether the two agree, up to what `why` says.
        why: the reason of a difference, or what is wrong.
    """

    recording: str
    part: str
    subject: str
    netns: int | None = None
    counted: int | None = None
    recorded: int | None = None
    lost: int = 0
    verdict: Verdict = Verdict.OK
    why: str = ""

    @property
    def difference(self) -> int | None:
        """What was counted and is neither recorded nor known to be lost."""
        if self.counted is None or self.recorded is None:
            return None
        return self.counted - self.recorded - self.lost
