"""Comparing two rates: how far apart chance alone can put them.

Counts x over exposures e (seconds, connections, segments) are compared by the exact conditional
test: given x0 + x1, x1 is binomial, and the ends of its interval (Clopper and Pearson 1934) are
quantiles of beta distributions. Events that come in bursts vary more than independent ones would,
by the factor `Spread.dispersion`; then the same interval is taken for counts divided by it, which
is quasi-Poisson (McCullagh and Nelder 1989, 6.2.3) with an answer also for counts of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL_FROM = 1000.0
_COUNT_CAP = 1e5
_TINY = 1e-300
_MIN_FREEDOM = 8
_COARSER_IS_REAL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A rate ratio and what it may be. `ratio` is None when both counts are zero."""

    ratio: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How much counts per time vary, as a multiple of what independent events would (1 or more).

    Attributes:
        dispersion: variance over mean.
        freedom: degrees of freedom of that estimate; 0 when there is none.
    """

    dispersion: float = 1.0
    freedom: int = 0


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts per bucket of one length, as sums: number of buckets, of events, of squares."""

    number: int
    total: float
    squares: float


def rate_ratio(
    before: float,
    after: float,
    exposure_before: float,
    exposure_after: float,
    *,
    confidence: float,
    spread: Spread | None = None,
) -> Interval:
    """Return (after / exposure_after) / (before / exposure_before), and its interval.

    Args:
        before: events; not negative.
        after: the same of the other side.
        exposure_before: what they are counted over; positive.
        exposure_after: the same of the other side.
        confidence: of the interval, such as 0.95.
        spread: how much the events vary; independent ones when None.
    """
    tail = (1 - confidence) / 2
    scale = exposure_before / exposure_after
    ratio = None if before == after == 0 else math.inf if before == 0 else after / before * scale
    divisor = _divisor(spread, tail)
    x0, x1 = before / divisor, after / divisor
    if min(x0, x1) > _NORMAL_FROM:
        half = -NormalDist().inv_cdf(tail) * math.sqrt(1 / x0 + 1 / x1)
        center = math.log(x1 / x0)
        return Interval(ratio, math.exp(center - half) * scale, math.exp(center + half) * scale)
    # What is so much more certain than the other count adds nothing to the width.
    cap = max(x0, x1) / _COUNT_CAP
    if cap > 1:
        x0, x1, scale = (x0 / cap, x1, scale / cap) if x0 > x1 else (x0, x1 / cap, scale * cap)
    low = 0.0 if x1 == 0 else _odds(beta_quantile(tail, x1, x0 + 1)) * scale
    high = math.inf if x0 == 0 else _odds(beta_quantile(1 - tail, x1 + 1, x0)) * scale
    return Interval(ratio, low, high)


def _odds(p: float) -> float:
    return p / (1 - p) if p < 1 else math.inf


def _divisor(spread: Spread | None, tail: float) -> float:
    """Return what counts are divided by: the dispersion, and more where that is uncertain."""
    if spread is None or spread.dispersion <= 1:
        return 1.0
    if not spread.freedom:
        return spread.dispersion
    wider = t_quantile(1 - tail, spread.freedom) / NormalDist().inv_cdf(1 - tail)
    return spread.dispersion * wider * wider


def estimate_spread(
    sides: tuple[Mapping[int, Buckets], Mapping[int, Buckets]], least: float = 1.0
) -> Spread:
    """Estimate the dispersion from both sides together, as Pearson's chi-square over its freedom.

    The shortest buckets say it best. Longer ones are taken where they show significantly more: a
    burst that lasts several of the short buckets is one burst.

    Args:
        sides: for each side, by length of a bucket in seconds, the counts.
        least: what is known beforehand, such as the mean weight of sampled rows.
    """
    best: Spread | None = None
    for length in sorted(set(sides[0]) | set(sides[1])):
        chi, freedom = 0.0, 0
        for side in sides:
            bucket = side.get(length)
            if bucket is None or bucket.number < 2 or bucket.total <= 0:
                continue
            mean = bucket.total / bucket.number
            chi += max(bucket.squares - bucket.total * mean, 0.0) / mean
            freedom += bucket.number - 1
        if not freedom:
            continue
        found = Spread(chi / freedom, freedom)
        if best is None:
            best = found
        elif freedom >= _MIN_FREEDOM:
            bound = chi_square_quantile(_COARSER_IS_REAL, freedom) / freedom
            if found.dispersion > bound * max(best.dispersion, 1.0):
                best = found
    if best is None or best.dispersion <= least:
        return Spread(max(least, 1.0), 0)
    return Spread(max(best.dispersion, 1.0), best.freedom)


def chi_square_quantile(p: float, freedom: int) -> float:
    """Return a quantile of chi-square (Wilson and Hilferty 1931; within 1 % from 3 degrees)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(p) * math.sqrt(part)) ** 3)


def t_quantile(p: float, freedom: int) -> float:
    """Return the quantile of Student's distribution for `p` of at least one half."""
    target = 2 * (1 - p)

    def tails(t: float) -> float:
        return beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)

    high = 1.0
    while tails(high) > target:
        high *= 2
    return _solve(lambda t: target - tails(t), 0.0, high)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the quantile of a beta distribution."""
    return _solve(lambda x: beta_cdf(x, a, b) - p, 0.0, 1.0)


def _solve(rising: Callable[[float], float], low: float, high: float) -> float:
    """Find the zero of a rising function, to nine digits also where it is small."""
    for _ in range(1100):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
        if high - low <= 1e-9 * high:
            break
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b) (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    if x < (a + 1) / (a + b + 2):
        return front * _continued(x, a, b) / a
    return 1 - front * _continued(1 - x, b, a) / b


def _continued(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function (Lentz's method)."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d)
            c = _nonzero(1 + term / c)
            value *= d * c
        if abs(d * c - 1) < 1e-13:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
