"""Counting the rows of a segment while it is sealed (droptape.format.rollup).

Rows are told apart by a hash of their keys, some bits at a time, and then compared: to sort them
would take longer. What is the same in all rows, as most of a flood is, costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from droptape.format.rollup import (
    CAUSES,
    FIRST,
    LAST,
    OWNERS,
    PORT,
    ROWS,
    SLOT,
    WEIGHT,
    Rollup,
    Slots,
    keys_of,
    pack,
    rollup_table,
)
from droptape.format.schema import Table
from droptape.format.service import port

_WIDTHS_NS = tuple(s * 100_000_000 for s in (1, 10, 100, 600, 6_000, 36_000, 864_000))
"""Of slots: from 100 ms to a day, each a multiple of the one before."""
_ROWS_EACH = 32
"""Rows that a count must stand for on average, or it is not worth its bytes."""
_ROWS_HERE = 16
"""The same within one row group."""
_FEWEST = 4096
"""Rows of a segment; fewer are read as fast as their counts would be."""
_MOST = 1 << 16
"""Counts of a segment: with more, slots become wider."""
_BITS = 14
"""Of the hash that are looked at together: the table of their places stays in the cache."""

Columns = Mapping[str, npt.NDArray[Any]]
Numbers = npt.NDArray[np.int64]
Counts = npt.NDArray[np.void]

_ODD = int.from_bytes(os.urandom(8), "little") | 1
"""Factor of the hash. Not the same everywhere: senders choose some of what is hashed."""


@dataclass(frozen=True, slots=True)
class _Times:
    """Times of rows, ns since 1970, with the first and the last of them."""

    all: Numbers
    low: int
    high: int

    def slots(self, origin_ns: int, width_ns: int) -> tuple[int, int]:
        """Return the number of the first slot that they are in, and how many slots there are."""
        first = (self.low - origin_ns) // width_ns
        return first, (self.high - origin_ns) // width_ns - first + 1


class Counting:
    """The rollups of one segment in the making."""

    def __init__(self, table: Table, origin_ns: int) -> None:
        """Begin.

        Args:
            table: the declaration of the rows; none but events are counted.
            origin_ns: start of the recording, ns since 1970.
        """
        self._table = table
        self._rollups: list[_Counted] = []
        if table.role == "events" and any(column.name == WEIGHT for column in table):
            self._rollups = [
                _Counted(table, CAUSES, origin_ns, _WIDTHS_NS),
                _Counted(table, OWNERS, origin_ns, _WIDTHS_NS[-1:]),
            ]

    def add(self, records: Columns, times: Numbers) -> None:
        """Count rows.

        Args:
            records: the columns of the table as the kernel wrote them, each of shape (rows,), or
                of shape (1,) where all rows have the same value.
            times: of the rows, ns since 1970, shape (rows,).
        """
        if self._rollups and len(times):
            found = {**records, PORT: port(self._table, records)}
            span = _Times(times, int(times.min()), int(times.max()))
            for rollup in self._rollups:
                rollup.add(found, span)

    def finish(self) -> str | None:
        """Return the rollups for the footer, None where there is none worth it."""
        found = [rollup for counted in self._rollups if (rollup := counted.finish()) is not None]
        return pack(found) if found else None


class _Counted:
    """One rollup."""

    def __init__(self, table: Table, name: str, origin_ns: int, widths_ns: tuple[int, ...]) -> None:
        self._name = name
        self._keys = keys_of(table, name)
        self._declared = rollup_table(table, self._keys)
        self._origin = origin_ns
        self._widths = widths_ns
        self._width = 0  # index of widths_ns
        self._parts: list[Counts] = []
        self._rows = 0
        self._given_up = False

    def add(self, records: Columns, times: _Times) -> None:
        if self._given_up:
            return
        self._rows += len(times.all)
        part = self._count({n: records[n] for n in self._keys}, times, records[WEIGHT])
        if part is None:
            self._give_up()
            return
        self._parts.append(part)
        if sum(map(len, self._parts)) > _MOST:
            self._merge(_MOST // 2)

    def finish(self) -> Rollup | None:
        if self._rows < _FEWEST:
            self._give_up()
        self._merge(self._rows // _ROWS_EACH)
        if self._given_up:
            return None
        (counts,) = self._parts
        # Equal values meet: less than half the bytes of the order in which they came.
        numbers = [counts[name] for name in self._keys if counts.dtype[name].kind != "S"]
        counts = counts[np.lexsort((counts[SLOT], *numbers))]
        slots = Slots(self._origin, self._widths[self._width])
        return Rollup(self._name, slots, self._declared, counts)

    def _give_up(self) -> None:
        self._given_up, self._parts = True, []

    def _count(self, keys: Columns, times: _Times, weight: npt.NDArray[np.uint32]) -> Counts | None:
        """Count the rows of one group; return None where they are too different.

        Slots become as wide as it takes for a count to stand for enough rows.
        """
        rows = len(times.all)
        # Other groups may have the same keys in the same slots: `finish` looks at all together.
        limit = max(rows // _ROWS_HERE, _FEWEST)
        varied = [column for column in keys.values() if len(column) == rows > 1]
        found = _numbered(varied, rows, limit)
        if found is None:
            return None
        numbers, leaders = found
        for width in range(self._width, len(self._widths)):
            first, many = times.slots(self._origin, self._widths[width])
            size = many * len(leaders)
            if size > 2 * rows + _MOST:
                continue
            start = self._origin + first * self._widths[width]
            places = numbers
            if many > 1:
                places = (times.all - start) // self._widths[width]
                if len(leaders) > 1:
                    places += numbers * many
            present = np.bincount(places, minlength=size)
            used = np.flatnonzero(present)
            if len(used) <= limit:
                break
        else:
            return None
        self._width = width
        counts: Counts = np.zeros(len(used), self._declared.dtype)
        of = leaders[used // many]
        for name, column in keys.items():
            counts[name] = column[of] if len(column) == rows else column[0]
        counts[SLOT] = start + used % many * self._widths[width]
        counts[ROWS] = present[used]
        if len(weight) == rows:
            # Whole numbers far below 2^53: exact.
            counts[WEIGHT] = np.bincount(places, weight, size)[used]
        else:
            counts[WEIGHT] = counts[ROWS] * np.uint64(weight[0])
        counts[FIRST], counts[LAST] = times.low, times.high
        if size > 1:
            for name, extreme, begin in (
                (FIRST, np.minimum, times.high),
                (LAST, np.maximum, times.low),
            ):
                found_here = np.full(size, begin)
                extreme.at(found_here, places, times.all)
                counts[name] = found_here[used]
        return counts

    def _merge(self, most: int) -> None:
        """Put equal keys together, in wider slots where there would be more than `most`."""
        while not self._given_up:
            counts = np.concatenate(self._parts)
            width = self._widths[self._width]
            slots = (counts[SLOT] - self._origin) // width * width + self._origin
            columns = [np.ascontiguousarray(counts[name]) for name in self._keys]
            found = _numbered([*columns, slots], len(counts), len(counts))
            if found is None:
                self._give_up()
                return
            numbers, leaders = found
            merged = counts[leaders]
            merged[SLOT] = slots[leaders]
            for name in ROWS, WEIGHT:
                merged[name] = 0
                np.add.at(merged[name], numbers, counts[name])
            for name, extreme in (FIRST, np.minimum), (LAST, np.maximum):
                extreme.at(merged[name], numbers, counts[name])
            self._parts = [merged]
            if len(merged) <= most:
                return
            if self._width + 1 == len(self._widths):
                self._give_up()
            else:
                self._width += 1


def _numbered(
    columns: list[npt.NDArray[Any]], rows: int, limit: int
) -> tuple[Numbers, Numbers] | None:
    """Number the rows so that those with equal values, and no others, have the same number.

    Args:
        columns: each of shape (rows,).
        rows: how many there are.
        limit: different rows at most.

    Returns:
        The number of each row, and for each number one of its rows; None with more than `limit`, or
        where rows that differ have the same hash, which somebody has to try for.
    """
    numbers: Numbers = np.zeros(rows, np.int64)
    if not columns:
        return numbers, np.zeros(1, np.int64)
    hashed = np.zeros(rows, np.uint64)
    for word in (word for column in columns for word in _words(column)):
        hashed ^= word
        hashed *= np.uint64(_ODD)
        hashed ^= hashed >> np.uint64(29)
    hashed *= np.uint64(_ODD)
    leaders: list[Numbers] = []
    left: Numbers | None = None  # rows that have no number yet; None: all
    place = np.empty(1 << _BITS, np.int64)
    leading, many = np.empty(1 << _BITS, np.uint64), 0
    while len(hashed):
        at = (hashed >> np.uint64(64 - _BITS)).view(np.int64)
        place.fill(-1)
        place[at] = np.arange(len(at))
        used = np.flatnonzero(place >= 0)
        chosen = place[used]
        if many + len(used) > limit:
            return None
        leaders.append(chosen if left is None else left[chosen])
        # Of the leaders only, which stay in the cache: all hashes do not.
        leading[used] = hashed[chosen]
        other = np.flatnonzero(leading[at] != hashed)
        place[used] = np.arange(many, many + len(used))
        many += len(used)
        if left is None:
            numbers, left = place[at], other
        else:
            numbers[left] = place[at]
            left = left[other]
        # Other bits for those that shared a place with other rows.
        hashed = hashed[other] * np.uint64(_ODD)
    found = np.concatenate(leaders)
    for word in (word for column in columns for word in _words(column)):
        if (word[found].take(numbers) != word).any():
            return None
    return numbers, found


def _words(values: npt.NDArray[Any]) -> list[npt.NDArray[np.uint64]]:
    """Return a column as 64-bit numbers."""
    if values.dtype.kind == "S":
        parts = np.ascontiguousarray(values).view(np.uint64).reshape(len(values), -1)
        return [parts[:, at] for at in range(parts.shape[1])]
    return [values.astype(np.uint64)]
