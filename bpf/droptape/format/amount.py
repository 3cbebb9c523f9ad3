"""For how many events a row stands: what it adds to the exact totals of its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .decode import Records


def amounts(records: Records) -> npt.NDArray[np.uint64]:
    """Return for how many events each of `records` stands, in the unit of its table's totals.

    That is its weight; for retransmits, whose totals count segments, its weight times its segments.
    A row without segments is one event.
    """
    names = records.dtype.names or ()
    out: npt.NDArray[Any] = np.ones(len(records), np.uint64)
    if "weight" in names:
        out *= records["weight"]
    if "segments" in names:
        out *= np.maximum(records["segments"], 1)
    return out
