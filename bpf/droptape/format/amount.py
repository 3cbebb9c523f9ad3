"""For how many events a row stands: what it adds to the exact totals of its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .decode import Records

FACTORS = ("weight", "segments")
"""Columns whose product is the amount of a row, of those that its table has; 1 without any."""


def amounts(records: Records) -> npt.NDArray[np.uint64]:
    """Return for how many events each of `records` stands, in the unit of its table's totals.

    That is its weight; for retransmits, whose totals count segments, its weight times its segments.
    """
    out: npt.NDArray[Any] = np.ones(len(records), np.uint64)
    for name in FACTORS:
        if name in (records.dtype.names or ()):
            out *= records[name]
    return out
