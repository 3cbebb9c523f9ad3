"""From a journal to a sealed segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from droptape.format.decode import Records, decode
from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.manifest import Segment
from droptape.format.schema import Table
from droptape.format.types import MONO

from .cluster import order
from .rollup import Counting
from .segment import ROW_GROUP, SegmentFile

DAMAGED = ".damaged"
"""Ending that a journal gets when parts of it could not be read. It is never deleted."""


_BLOCK = 2048
_TOGETHER = 16  # records that NumPy takes for one row: it is slow with short ones


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of a journal.

    Attributes:
        segment: None without rows.
        damage: what was unreadable, or "".
        torn: whether that is only a frame that was being written when its recorder was killed.
    """

    segment: Segment | None
    damage: str
    torn: bool = False

    @property
    def rows(self) -> int:
        """Rows that were read."""
        return self.segment.rows if self.segment else 0


def unreadable(journal: Path, exc: FormatError) -> Sealed:
    """Return what became of a journal of which nothing can be read."""
    return Sealed(None, str(exc).removeprefix(f"{journal}: "))


def target_of(journal: Path) -> Path:
    """Return the path of the segment that `journal` becomes."""
    return journal.with_suffix(".parquet")


def seal_journal(journal: Path, started_ns: int = 0) -> Sealed:
    """Write the segment of `journal` beside it; the journal stays.

    Args:
        journal: the file.
        started_ns: when the recording began, UTC: what the slots of its rollup count from.

    Raises:
        OSError: the journal cannot be read, or the segment not written; nothing is left of it.
        FormatError: not even the header of the journal can be read.
    """
    reader = JournalReader(journal)
    counting = Counting(reader.table, started_ns)
    groups = _groups(reader, counting)
    first = next(groups, None)
    if first is None:
        return Sealed(None, reader.damage, reader.torn)
    with SegmentFile(reader.table, target_of(journal), first.num_rows, records=True) as file:
        file.write(first)
        for group in groups:
            file.write(group)
        return Sealed(file.finish(counting.finish()), reader.damage, reader.torn)


def count_rows(journal: Path) -> tuple[int, JournalReader]:
    """Return the readable rows of `journal` and who has read them; errors as above."""
    reader = JournalReader(journal)
    return sum(len(frame.records) for frame in reader.frames()), reader


class _Handed(dict[str, npt.NDArray[Any]]):
    """Columns that are each asked for once, and then belong to who asked."""

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.pop(name)


class _Group:
    """Rows of one row group in the making.

    They are taken apart a block at a time, which stays in the processor's cache. Only what they are
    sorted by is there as columns before: to sort each column by itself would look all over it.
    What is the same in all rows, as most of a flood is, is not taken apart at all.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = 0
        self.mono = next((c.name for c in table if c.type is MONO), None)
        self.looked = 0  # of them, those that `_look` saw
        # As bytes: NumPy copies records field by field.
        self.records = np.empty(ROW_GROUP, f"V{table.dtype.itemsize}")
        self.words = self.records.view(np.uint64).reshape(ROW_GROUP, -1)
        self.changes = np.zeros((_BLOCK, self.words.shape[1]), bool)
        self.places = {name: _words(table, name) for name in table.dtype.names or ()}
        names = {*table.cluster, self.mono}
        self.keys = {c.name: np.empty(ROW_GROUP, c.type.dtype) for c in table if c.name in names}
        self.same = {c.name for c in table}  # columns with one value so far
        self.offsets = np.empty(ROW_GROUP, np.int64)

    def add(self, records: Records, wall_offset_ns: int) -> int:
        """Take rows from the front of `records`, at most a block; return how many."""
        taken = min(len(records), ROW_GROUP - self.rows, self.looked + _BLOCK - self.rows)
        end = self.rows + taken
        self.records[self.rows : end] = records[:taken].view(self.records.dtype)
        self.offsets[self.rows : end] = wall_offset_ns
        self.rows = end
        if end - self.looked == _BLOCK:
            self._look()
        return taken

    def _look(self) -> None:
        """See to the rows that were added since the last time, while they are in the cache."""
        at, end = self.looked, self.rows
        records = self.records.view(self.table.dtype)
        for name in self._changed(self.words[max(at - 1, 0) : end]) & self.keys.keys():
            self.keys[name][:at] = records[:1][name]
        for name in self.keys.keys() - self.same:
            self.keys[name][at:end] = records[name][at:end]
        self.looked = end

    def _changed(self, words: npt.NDArray[np.uint64]) -> set[str]:
        """Look for changes from one of `words` to the next; return columns that had none before."""
        many, width = len(words) - 1, words.shape[1]
        whole = -(-many // _TOGETHER) * _TOGETHER
        self.changes[many:whole] = False
        flat = words.reshape(-1)
        np.not_equal(flat[width:], flat[:-width], out=self.changes[:many].reshape(-1))
        wide = self.changes[:whole].reshape(-1, _TOGETHER * width)
        varies = np.logical_or.reduce(wide, axis=0).reshape(-1, width).any(axis=0)
        new = {name for name in self.same if varies[self.places[name]].any()}
        self.same -= new
        return new

    def flush(self, counting: Counting) -> pa.Table:
        """Count the rows, return them in the order of a segment, and start anew."""
        if self.looked < self.rows:
            self._look()
        first = self.records[:1].view(self.table.dtype)
        same = {name: first[name] for name in self.same}
        keys = {n: column[: self.rows] for n, column in self.keys.items() if n not in same}
        by_cluster = order(self.table, keys, self.rows)
        columns = _Handed(
            {c.name: np.empty(self.rows, c.type.dtype) for c in self.table if c.name not in same}
        )
        for start in range(0, self.rows, _BLOCK):
            taken = self.records.take(by_cluster[start : start + _BLOCK])
            block = taken.view(self.table.dtype)
            for name, column in columns.items():
                column[start : start + _BLOCK] = block[name]
        # A column shares its word with others, which may be what changed.
        same |= {
            name: column[:1].copy()
            for name, column in columns.items()
            if column.itemsize < 8 and (column == column[0]).all()
        }
        columns.update(same)
        offsets = self.offsets[: self.rows]
        one = bool((offsets == offsets[0]).all())
        offsets = np.broadcast_to(offsets[0], self.rows) if one else offsets[by_cluster]
        if self.mono is not None:
            counting.add(dict(columns), columns.get(self.mono, offsets).view(np.int64) + offsets)
        result = decode(self.table, columns, offsets)
        self.rows = self.looked = 0
        self.same = {c.name for c in self.table}
        return result


def _words(table: Table, name: str) -> slice:
    """Return which 64-bit words of a record a column has a part in."""
    fields = cast(Mapping[str, Any], table.dtype.fields)
    kind, offset = fields[name][:2]
    return slice(offset // 8, -(-(offset + kind.itemsize) // 8))


def _groups(reader: JournalReader, counting: Counting) -> Iterator[pa.Table]:
    """Yield the rows of a journal, `ROW_GROUP` at a time, when they are counted."""
    group = _Group(reader.table)
    for frame in reader.frames():
        records = frame.records
        while len(records):
            records = records[group.add(records, frame.wall_offset_ns) :]
            if group.rows == ROW_GROUP:
                yield group.flush(counting)
    if group.rows:
        yield group.flush(counting)
