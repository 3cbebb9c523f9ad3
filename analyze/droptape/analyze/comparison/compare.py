"""`diff`: the whole comparison as data; render/difference.py lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from droptape.analyze.errors import QueryError
from droptape.analyze.top import split
from droptape.analyze.verify import quick_look

from .change import PERS, Change, Rules, Verdict, changes
from .counts import Side, losses, side
from .settings import Setting, differences
from .words import notes, sentence

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_ORDER = [Verdict.NEW, Verdict.WORSE, Verdict.GONE, Verdict.BETTER, Verdict.SAME]
FAIL_ON = {
    "worse": (Verdict.NEW, Verdict.WORSE),
    "new": (Verdict.NEW,),
    "any": (Verdict.NEW, Verdict.WORSE, Verdict.GONE, Verdict.BETTER),
}
"""What counts as a failure: worse includes what is new."""


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two recordings.

    Attributes:
        before: name, seconds, connections, segments of one side.
        after: of the other.
        by: the columns that events are told apart by.
        changes: everything compared, the gravest first; `benign` ones are part of normal operation.
        settings: what was set differently.
        notes: what a reader has to know about the comparison, in sentences.
        rules: when a difference counts as one.
    """

    before: Side
    after: Side
    by: list[str]
    changes: list[Change]
    settings: list[Setting]
    notes: list[str]
    rules: Rules = field(default_factory=Rules)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return sentence([c for c in self.changes if not c.benign])

    def count(self, verdict: Verdict) -> int:
        """Count what has a verdict, benign events left out."""
        return sum(c.verdict is verdict and not c.benign for c in self.changes)

    def fails(self, on: str) -> bool:
        """Say whether there is a change of the kind `on`: worse (or new), new, any."""
        return any(self.count(verdict) for verdict in FAIL_ON[on])

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        sides = {
            name: {
                "name": s.name, "seconds": s.seconds, "connections": s.connections,
                "segments": s.segments,
            }
            for name, s in (("before", self.before), ("after", self.after))
        }  # fmt: skip
        return {
            "verdict": self.verdict,
            **{verdict.value: self.count(verdict) for verdict in _ORDER},
            **sides,
            "by": self.by,
            "changes": [change.to_json() for change in self.changes],
            "settings": [asdict(setting) for setting in self.settings],
            "notes": self.notes,
            "rules": asdict(self.rules),
        }


def diff(
    before: Recording,
    after: Recording,
    *,
    by: str | Sequence[str] = ("reason", "function"),
    per: str = "auto",
    threshold: float = 1.2,
    confidence: float = 0.95,
    least: int = 10,
    include_benign: bool = False,
) -> Diff:
    """Say what changed between two recordings.

    Rates are compared, so durations may differ. With ``per="auto"`` refused connections and resets
    are counted per connection, retransmits and TCP drops per million TCP segments, all else, and
    all where the traffic was not recorded on both sides, per second.

    Args:
        before: one recording, or several opened as one.
        after: the other.
        by: columns to tell events apart by, as for `Recording.top`; the kind always is one.
        per: auto, second, connection or segment.
        threshold: rates must differ by this factor at least to be worse or better.
        confidence: that all intervals together are right.
        least: with fewer events on both sides together there is no verdict.
        include_benign: also list events that are part of normal operation.

    Raises:
        QueryError: a column does not exist, or a number makes no sense.
    """
    if per not in ("auto", *PERS):
        raise QueryError(f"rates are per auto, {', '.join(PERS)}; not per {per}")
    if not threshold >= 1:
        raise QueryError("the threshold is a factor of 1 or more")
    if not 0.5 <= confidence < 1:
        raise QueryError("the confidence is between 0.5 and 1")
    wanted = [column for column in split(by) if column not in ("kind", "benign")]
    rules = Rules(confidence, threshold, least)
    one, other = side(before, wanted), side(after, wanted)
    kinds = [kind for kind in one.kinds if kind in other.kinds]
    found = changes(one, other, wanted, kinds, per, rules)
    shown = [c for c in found if include_benign or not c.benign]
    shown.sort(key=_place)
    benign = tuple(sum(getattr(c, s) for c in found if c.benign) for s in ("before", "after"))
    settings = differences(before, after)
    said = notes(
        one, other, [c for c in found if not c.benign], (benign[0], benign[1]),
        (losses(before), losses(after)), settings, per,
    )  # fmt: skip
    said += [_books(rec, one_side.name) for rec, one_side in ((before, one), (after, other))]
    said = [note for note in said if note]
    said += [str(problem) for rec in (before, after) for problem in rec.problems]
    return Diff(one, other, wanted, shown, settings, said, rules)


def _books(rec: Recording, called: str) -> str:
    """Say where the kernel's counters do not agree with the recording; "" where they do."""
    found = [] if rec.window else quick_look(rec)  # the counters are of whole seconds
    if not found:
        return ""
    return (
        f"The books of {called} do not balance: the kernel counted {found[0].subject} "
        f"{found[0].counted or 0:,}, recorded {found[0].recorded or 0:,} "
        f"({len(found):,} such); see droptape verify."
    )


def _place(change: Change) -> tuple[Any, ...]:
    """Return what changes are sorted by: the gravest first, and always in the same order."""
    gravity = (change.benign, _ORDER.index(change.verdict), not change.sure, -_weight(change))
    return (*gravity, change.kind, *map(str, change.values.values()))


def _weight(change: Change) -> float:
    old, new = change.rates.get(change.per, (change.before, change.after))
    return abs(new - old)
