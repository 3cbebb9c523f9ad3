"""From a journal to a sealed segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from droptape.format.decode import Records, decode
from droptape.format.journal import JournalReader
from droptape.format.manifest import Segment
from droptape.format.schema import Table

from .cluster import order
from .segment import ROW_GROUP, SegmentFile

DAMAGED = ".damaged"
"""Ending that a journal gets when parts of it could not be read. It is never deleted."""


_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of a journal: its segment, None without rows, and what was unreadable, or ""."""

    segment: Segment | None
    damage: str


def target_of(journal: Path) -> Path:
    """Return the path of the segment that `journal` becomes."""
    return journal.with_suffix(".parquet")


def seal_journal(journal: Path) -> Sealed:
    """Write the segment of `journal` beside it; the journal stays.

    Raises:
        OSError: the journal cannot be read, or the segment not written; nothing is left of it.
        FormatError: not even the header of the journal can be read.
    """
    reader = JournalReader(journal)
    groups = _groups(reader)
    first = next(groups, None)
    if first is None:
        return Sealed(None, reader.damage)
    with SegmentFile(reader.table, target_of(journal), first.num_rows) as file:
        file.write(first)
        for group in groups:
            file.write(group)
        return Sealed(file.finish(), reader.damage)


def count_rows(journal: Path) -> tuple[int, str]:
    """Return the readable rows of `journal` and what was unreadable, or ""; errors as above."""
    reader = JournalReader(journal)
    return sum(len(frame.records) for frame in reader.frames()), reader.damage


class _Taken(Mapping[str, npt.NDArray[Any]]):
    """Columns in another order, each made when it is asked for."""

    def __init__(
        self, columns: Mapping[str, npt.NDArray[Any]], indices: npt.NDArray[np.int64]
    ) -> None:
        self._columns = columns
        self._indices = indices

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][self._indices]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Group:
    """Rows of one row group in the making, column by column.

    Batches are taken apart while they are in the processor's cache; every later step, sorting
    first of all, then reads contiguous columns.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = 0
        self.columns = {c.name: np.empty(ROW_GROUP, c.type.dtype) for c in table}
        self.offsets = np.empty(ROW_GROUP, np.int64)

    def add(self, records: Records, wall_offset_ns: int) -> int:
        """Take rows from the front of `records`, at most a block; return how many."""
        taken = min(len(records), ROW_GROUP - self.rows, _BLOCK)
        end = self.rows + taken
        for name, column in self.columns.items():
            column[self.rows : end] = records[name][:taken]
        self.offsets[self.rows : end] = wall_offset_ns
        self.rows = end
        return taken

    def flush(self) -> pa.Table:
        """Return the rows in the order of a segment, and start anew."""
        columns = {name: column[: self.rows] for name, column in self.columns.items()}
        by_cluster = order(self.table, columns)
        result = decode(
            self.table, _Taken(columns, by_cluster), self.offsets[: self.rows][by_cluster]
        )
        self.rows = 0
        return result


def _groups(reader: JournalReader) -> Iterator[pa.Table]:
    """Yield the rows of a journal, `ROW_GROUP` at a time."""
    group = _Group(reader.table)
    for frame in reader.frames():
        records = frame.records
        while len(records):
            records = records[group.add(records, frame.wall_offset_ns) :]
            if group.rows == ROW_GROUP:
                yield group.flush()
    if group.rows:
        yield group.flush()
