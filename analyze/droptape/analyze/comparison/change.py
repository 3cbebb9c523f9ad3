"""One thing that is compared, and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .counts import Count, Key, Side
from .statistics import Interval, Spread, estimate_spread, rate_ratio

PERS = ("second", "connection", "segment")
_MANIFOLD = 10.0


class Verdict(str, Enum):
    """What became of a rate."""

    NEW = "new"
    WORSE = "worse"
    GONE = "gone"
    BETTER = "better"
    SAME = "same"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Rules:
    """When a difference is one.

    Attributes:
        confidence: that all intervals together are right.
        threshold: rates must differ by this factor at least.
        least: with fewer events on both sides together there is no verdict.
    """

    confidence: float = 0.95
    threshold: float = 1.2
    least: int = 10


@dataclass(frozen=True, slots=True)
class Change:
    """One value of the columns, on both sides.

    Attributes:
        kind: event table.
        values: by column.
        benign: part of normal operation; never decides anything.
        before: events.
        after: events.
        rates: by what they are per (second, connection, segment: a million of them), before and
            after; only what is known on both sides.
        per: the one that the verdict is by.
        ratio: the rate after over the one before; inf from zero, None when both are zero.
        low: what the ratio is at least, with the confidence asked for.
        high: what it is at most.
        dispersion: how much more the events vary than independent ones, by their bursts.
        verdict: what became of the rate.
        sure: False when it could be chance because few bursts make all of the events.
    """

    kind: str
    values: dict[str, Any]
    benign: bool
    before: int
    after: int
    rates: dict[str, tuple[float, float]]
    per: str
    ratio: float | None
    low: float
    high: float
    dispersion: float
    verdict: Verdict
    sure: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; an infinite ratio is null."""
        out: dict[str, Any] = {"kind": self.kind, **self.values}
        out |= {"verdict": self.verdict.value, "sure": self.sure, "benign": self.benign}
        out |= {"before": self.before, "after": self.after, "per": self.per}
        for per in PERS:
            old, new = self.rates.get(per, (None, None))
            out |= {f"before_per_{per}": old, f"after_per_{per}": new}
        ratio = self.ratio if self.ratio is not None and math.isfinite(self.ratio) else None
        high = self.high if math.isfinite(self.high) else None
        return out | {
            "ratio": ratio, "low": self.low, "high": high, "dispersion": self.dispersion,
        }  # fmt: skip


def changes(
    before: Side, after: Side, by: list[str], kinds: Iterable[str], per: str, rules: Rules
) -> list[Change]:
    """Compare every key of two sides; `per` is one of `PERS`, or auto."""
    wanted = set(kinds)
    keys = [k for k in dict.fromkeys([*before.counts, *after.counts]) if k[0] in wanted]
    # More comparisons find more by chance, so each interval has to be wider (Bonferroni).
    asked = sum(_number(before, k) + _number(after, k) >= rules.least and not k[2] for k in keys)
    confidence = 1 - (1 - rules.confidence) / max(asked, 1)
    return [_change(before, after, key, by, per, confidence, rules) for key in keys]


def _number(side: Side, key: Key) -> float:
    return side.counts[key].events if key in side.counts else 0.0


def _exposures(before: Side, after: Side) -> dict[str, tuple[float, float]]:
    found = {}
    for per in PERS:
        old, new = before.exposure(per), after.exposure(per)
        if old and new:
            found[per] = (old, new)
    return found


def _change(
    before: Side, after: Side, key: Key, by: list[str], per: str, confidence: float, rules: Rules
) -> Change:
    old, new = before.counts.get(key, Count()), after.counts.get(key, Count())
    exposures = _exposures(before, after)
    chosen = key[1] if per == "auto" else per
    chosen = chosen if chosen in exposures else "second"
    over = exposures.get(chosen, (1.0, 1.0))
    weight = max(old.weight, new.weight)
    spread = estimate_spread((old.buckets, new.buckets), least=weight)

    def interval(assumed: Spread) -> Interval:
        return rate_ratio(old.events, new.events, *over, confidence=confidence, spread=assumed)

    careful, plain = interval(spread), interval(Spread(weight))
    verdict, sure = Verdict.SAME, True
    if old.events + new.events >= rules.least:
        verdict, sure = _verdict(old.events, new.events, careful, plain, rules.threshold)
    return Change(
        kind=key[0],
        values=dict(zip(by, key[3:], strict=True)),
        benign=key[2],
        before=round(old.events),
        after=round(new.events),
        rates={p: (old.events / e[0], new.events / e[1]) for p, e in exposures.items()},
        per=chosen,
        ratio=careful.ratio,
        low=careful.low,
        high=careful.high,
        dispersion=spread.dispersion,
        verdict=verdict,
        sure=sure,
    )


def _verdict(
    old: float, new: float, careful: Interval, plain: Interval, threshold: float
) -> tuple[Verdict, bool]:
    """Judge one ratio.

    What was never seen on one side and often on the other, or ten times as often, is said also when
    it came in so few bursts that chance could be the reason: nobody wants to miss it, but it is not
    sure.
    """
    if old == 0 or new == 0:
        seen = plain.low > threshold if old == 0 else plain.high < 1 / threshold
        sure = careful.low > 1 if old == 0 else careful.high < 1
        return ((Verdict.NEW if old == 0 else Verdict.GONE), sure) if seen else (Verdict.SAME, True)
    ratio = careful.ratio or 0.0
    if careful.low > 1 and ratio >= threshold:
        return Verdict.WORSE, True
    if careful.high < 1 and ratio <= 1 / threshold:
        return Verdict.BETTER, True
    if plain.low > _MANIFOLD:
        return Verdict.WORSE, False
    if plain.high < 1 / _MANIFOLD:
        return Verdict.BETTER, False
    return Verdict.SAME, True
