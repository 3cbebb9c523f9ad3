"""The order of rows inside a row group.

Rows with equal values next to each other compress to about half of what they take in time order
(docs/DESIGN.md). `np.lexsort` over five columns would cost more than everything else together, so
as many columns as fit are packed into a 64-bit key whose lowest bits are the row's place, and
plain integers are sorted: once or twice for IPv4, a few times more for IPv6.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from droptape.format.schema import Table
from droptape.format.types import MONO

Columns = Mapping[str, npt.NDArray[Any]]
Keys = npt.NDArray[np.uint64]


def order(table: Table, columns: Columns, rows: int) -> npt.NDArray[np.int64]:
    """Return the indices that sort rows by `table.cluster`, then time, then arrival.

    Args:
        table: the declaration.
        columns: by name those of `table.cluster` and the time, contiguous, each of shape (rows,);
            one that is missing is the same in all rows.
        rows: how many there are.

    Returns:
        A permutation of ``range(rows)``.
    """
    result = _time_order(table, columns, rows)
    if rows < 2:
        return result
    place_bits = (rows - 1).bit_length()
    key, bits = np.zeros(rows, np.uint64), 0
    words = [word for name in table.cluster if name in columns for word in _words(columns[name])]
    # Least significant first: each pass keeps the order that the passes before it made.
    for word in reversed(words):
        low = word.min()
        width = int(word.max() - low).bit_length()
        if bits and bits + width + place_bits > 64:
            result = _pass(key, result, place_bits)
            key, bits = np.zeros(rows, np.uint64), 0
        key |= (word - low) << np.uint64(bits)
        bits += width
    return _pass(key, result, place_bits) if bits else result


def _pass(key: Keys, before: npt.NDArray[np.int64], place_bits: int) -> npt.NDArray[np.int64]:
    """Sort the rows by `key`; those with equal keys keep the order of `before`."""
    packed = key[before] << np.uint64(place_bits)
    packed |= np.arange(len(key), dtype=np.uint64)
    packed.sort()
    packed &= np.uint64((1 << place_bits) - 1)
    return before[packed.view(np.int64)]


def _time_order(table: Table, columns: Columns, rows: int) -> npt.NDArray[np.int64]:
    mono = next((c.name for c in table if c.type is MONO), None)
    if mono is not None and mono in columns:
        # Nearly in order already, which a stable sort makes the most of.
        return np.argsort(columns[mono], kind="stable")
    return np.arange(rows, dtype=np.int64)


def _words(values: npt.NDArray[Any]) -> Iterator[Keys]:
    """Yield a column as numbers of at most 32 bits, the most significant first.

    Words that are the same in every row are left out.
    """
    if values.dtype.itemsize % 4:
        # Negative numbers end up behind the others; equal values meet all the same.
        yield values.astype(np.uint64) & np.uint64(0xFFFF_FFFF)
        return
    text = values.dtype.kind in "SV"
    parts = values.view(">u4" if text else "=u4").reshape(len(values), -1)
    places = range(parts.shape[1])
    for i in places if text or sys.byteorder == "big" else reversed(places):
        part = parts[:, i]
        if bool((part != part[0]).any()):
            yield part.astype(np.uint64)
