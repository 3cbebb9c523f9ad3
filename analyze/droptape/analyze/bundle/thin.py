"""Keeping some of many events, with weights that say for how many each stands.

Rows that are alike (the same cause, place, process) are put in order of time and cut into runs of
neighbours. Of each run one row stays, drawn with the chance that its weight gives it, and takes
the weights of all. So the sum of the weights is exactly what it was, for every cause, place and
process, and right to the length of a run over time. Rare kinds of rows stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def shares(counts: Mapping[str, int], budget: int) -> dict[str, int]:
    """Divide `budget` rows among tables: the small ones whole, the large ones the same."""
    names = list(counts)
    level = _quotas(np.array([counts[n] for n in names], np.int64), budget)
    return dict(zip(names, map(int, level), strict=True))


def thin(rows: pa.Table, alike: Sequence[str], budget: int, seed: int) -> pa.Table:
    """Return about `budget` of the rows, in their order, with larger `weight`.

    Args:
        rows: with `ts_ns` and `weight`.
        alike: columns that are the same in rows that may stand for each other. When these tell
            more than `budget` rows apart, fewer of them are looked at: the last ones not.
        budget: rows to keep.
        seed: which are kept; the same seed keeps the same.
    """
    if rows.num_rows <= budget:
        return rows
    budget = max(budget, 1)
    codes = _codes(rows, alike, budget)
    counts = np.bincount(codes)
    order = np.lexsort((rows["ts_ns"].to_numpy(), codes))
    ordered = codes[order]
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    place = np.arange(rows.num_rows) - first[ordered]
    run = place * _quotas(counts, budget)[ordered] // counts[ordered]
    begins = np.flatnonzero(np.concatenate(([True], (np.diff(ordered) != 0) | (np.diff(run) != 0))))
    weights = rows["weight"].to_numpy()[order].astype(np.int64)
    ends = np.cumsum(weights)
    sums = np.add.reduceat(weights, begins)
    base = ends[begins] - weights[begins]
    drawn = base + np.random.default_rng(seed).random(len(begins)) * sums
    last = np.concatenate((begins[1:], [rows.num_rows])) - 1
    chosen = np.clip(np.searchsorted(ends, drawn, side="right"), begins, last)
    kept = order[chosen]
    by_place = np.argsort(kept)
    picked = rows.take(pa.array(kept[by_place]))
    at = picked.schema.get_field_index("weight")
    field = picked.schema.field(at)
    return picked.set_column(at, field, pa.array(sums[by_place], field.type))


def _codes(rows: pa.Table, alike: Sequence[str], budget: int) -> Ints:
    codes: Ints = np.zeros(rows.num_rows, np.int64)
    for column in alike:
        one = _numbered(rows[column])
        finer = np.unique(codes * (int(one.max()) + 1) + one, return_inverse=True)[1]
        if finer.max() >= budget:
            continue
        codes = finer.astype(np.int64)
    return codes


def _numbered(column: pa.ChunkedArray[Any]) -> Ints:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    codes: Ints = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _quotas(counts: Ints, budget: int) -> Ints:
    """Return how many of each may stay: all up to a level, the level beyond; one at least."""
    ordered = np.sort(counts)
    below = np.concatenate(([0], np.cumsum(ordered)[:-1]))
    levels = (budget - below) // np.arange(len(ordered), 0, -1)
    fitting = np.flatnonzero(levels < ordered)
    level = int(levels[fitting[0]]) if len(fitting) else int(ordered[-1])
    quotas: Ints = np.minimum(counts, max(level, 1))
    return quotas
