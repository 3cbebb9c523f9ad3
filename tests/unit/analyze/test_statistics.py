"""The intervals hold what they promise: by simulation, with seeds that are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from droptape.analyze.comparison.statistics import (
    Buckets,
    Spread,
    beta_cdf,
    beta_quantile,
    chi_square_quantile,
    estimate_spread,
    rate_ratio,
    t_quantile,
)

ROUNDS = 500
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def test_quantiles_are_those_of_the_tables() -> None:
    assert beta_quantile(0.025, 5, 11) == pytest.approx(0.118241, abs=1e-6)
    assert beta_cdf(0.5, 3, 3) == pytest.approx(0.5)
    assert beta_cdf(0.2, 1, 4) == pytest.approx(1 - 0.8**4)
    assert t_quantile(0.975, 1) == pytest.approx(12.7062, abs=1e-3)
    assert t_quantile(0.975, 8) == pytest.approx(2.3060, abs=1e-3)
    assert chi_square_quantile(0.95, 8) == pytest.approx(15.507, rel=0.01)


def test_intervals_of_zeros_and_of_millions() -> None:
    new = rate_ratio(0, 10, 60, 60, confidence=0.95)
    # Clopper and Pearson for 10 of 10: the lower end is 0.025^(1/10) = 0.6915.
    assert (new.ratio, new.high) == (math.inf, math.inf)
    assert new.low == pytest.approx(0.6915 / 0.3085, rel=1e-3)
    assert rate_ratio(0, 0, 60, 30, confidence=0.95).ratio is None
    many = rate_ratio(1e7, 2e7, 60, 120, confidence=0.95)
    assert many.ratio == pytest.approx(1)
    assert 0.998 < many.low < 1 < many.high < 1.002
    one_sided = rate_ratio(3, 1e7, 1, 1, confidence=0.95)
    assert one_sided.low < 1e7 / 3 < one_sided.high < math.inf


def side(counts: Counts) -> dict[int, Buckets]:
    found = {}
    for length in (1, 4, 16):
        number = len(counts) // length
        if number >= 2:
            whole = counts[: number * length].reshape(number, length).sum(axis=1)
            found[length] = Buckets(number, float(whole.sum()), float((whole**2).sum()))
    return found


def steady(rng: np.random.Generator, rate: float, seconds: int) -> Counts:
    return rng.poisson(rate, seconds)


def bursty(rng: np.random.Generator, rate: float, seconds: int) -> Counts:
    """Bursts of 20 events on average, one in about 20 / rate seconds."""
    return np.array([rng.geometric(1 / 20, n).sum() if n else 0
                     for n in rng.poisson(rate / 20, seconds)])  # fmt: skip


def long_bursts(rng: np.random.Generator, rate: float, seconds: int) -> Counts:
    """Bursts that last for four seconds."""
    starts = rng.poisson(rate / 40, seconds)
    out = np.zeros(seconds + 4, np.int64)
    for second, number in enumerate(starts):
        for ahead in range(4):
            out[second + ahead] += rng.poisson(10 * number)
    return out[:seconds]


@pytest.mark.parametrize(
    ("make", "rate", "seconds", "others", "ratio", "lowest"),
    [
        (steady, 0.5, 60, 60, 1.0, 0.945),
        (steady, 20.0, 60, 20, 1.0, 0.94),
        (steady, 5.0, 30, 60, 3.0, 0.945),
        (steady, 50.0, 5, 5, 1.0, 0.94),
        (bursty, 20.0, 60, 60, 1.0, 0.93),
        (bursty, 20.0, 120, 40, 2.0, 0.93),
        (long_bursts, 20.0, 240, 240, 1.0, 0.88),
    ],
)
def test_interval_holds_the_truth_as_often_as_it_says(
    make: object, rate: float, seconds: int, others: int, ratio: float, lowest: float
) -> None:
    assert callable(make)
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(ROUNDS):
        before, after = make(rng, rate, seconds), make(rng, rate * ratio, others)
        spread = estimate_spread((side(before), side(after)))
        found = rate_ratio(
            before.sum(), after.sum(), seconds, others, confidence=0.95, spread=spread
        )
        held += found.low <= ratio <= found.high
    assert held / ROUNDS >= lowest
    assert held / ROUNDS < 0.999  # wide enough to be right, and no wider


def test_without_the_spread_bursts_would_be_false_alarms() -> None:
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(300):
        before, after = bursty(rng, 20, 60), bursty(rng, 20, 60)
        found = rate_ratio(before.sum(), after.sum(), 60, 60, confidence=0.95)
        wrong += not found.low <= 1 <= found.high
    assert wrong > 150


def test_spread_of_steady_counts_is_one_and_of_bursts_is_their_size() -> None:
    rng = np.random.default_rng(7)
    assert estimate_spread(
        (side(steady(rng, 10, 600)), side(steady(rng, 10, 600)))
    ).dispersion == pytest.approx(1, abs=0.1)
    # The sum of squares over the sum of geometric bursts of mean 20 is 2 * 20 - 1.
    bursts = estimate_spread((side(bursty(rng, 20, 3000)), side(bursty(rng, 20, 3000))))
    assert bursts.dispersion == pytest.approx(39, rel=0.15)
    lasting = estimate_spread((side(long_bursts(rng, 20, 2000)), side(long_bursts(rng, 20, 2000))))
    assert lasting.dispersion > 20
    assert estimate_spread(({}, {}), least=8) == Spread(8, 0)
