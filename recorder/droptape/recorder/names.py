"""Names of processes, control groups and namespaces, and settings, within a disk budget.

They explain the rest and stay as long as it does. What was true only before all that stays goes:
small files of a table are put together into its first one, without the rows that others replaced.
When much is left, what no row that stays names goes too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import sequence_of
from droptape.format.manifest import Segment
from droptape.format.removal import is_put_together
from droptape.format.schema import Table
from droptape.format.tables import NETNS_NAMES, PROCESSES, SYSCTLS
from droptape.format.types import MONO

from .jobs import Job
from .ledger import Ledger
from .needed import KEYS, needed
from .segment import SegmentFile, read_rows

_FOR_NAMES = 0.25
_PRESSING = 0.75
"""Part of what names may take, from which on files are put together more often."""
_FILES = 64
"""So many new files of a table are put together."""
_MOST_BYTES = 8 << 20
"""Files of so much are read at once; it takes ten times as much memory."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 600.0
_SHARE = 0.001
"""Of a core: to find what is named takes reading all that stays."""
_SLACK_NS = 10_000_000_000
"""What is so old has been taken from the kernel, and has its place in a journal."""
NO_MORE_NAMES = (
    "names of processes, control groups and namespaces that came later are missing: those before "
    "take a quarter of the disk budget"
)
REPLACED: dict[str, tuple[list[str], str]] = {
    PROCESSES.name: (["pid"], "seen_ns"),
    NETNS_NAMES.name: (["inum"], "since_ns"),
    SYSCTLS.name: (["netns", "name"], "ts_ns"),
}
"""Tables where a row replaces earlier ones of the same columns, and from when on."""
_FROM_THE_START = frozenset({NETNS_NAMES.name})
"""Where no time means from the start; elsewhere it means unknown, and the row stays."""
_ORDER = "order"


class Names:
    """What the dictionaries of a recording with a disk budget take.

    Those of the start do not count: they are as large as the kernel.
    """

    def __init__(self, ledger: Ledger, budget: int) -> None:
        """Prepare; `budget` in bytes."""
        self._ledger = ledger
        self._most = budget * _FOR_NAMES
        self._left: dict[str, int] = {}
        self._wait, self._since, self._bytes = _FIRST_WAIT_S, float("-inf"), 0.0
        self.search = Search()

    def full(self, jobs: deque[Job], *, settled: bool) -> bool:
        """Say whether more would leave too little room for what they explain; note it then.

        Args:
            jobs: gets what makes room, when it is time for that.
            settled: whether all events that were taken from the kernel are in journals.
        """
        if settled and (job := self._job()):
            jobs.append(job)
        full = sum(s.bytes for s in _files(self._ledger)) > self._most
        if full:
            self._ledger.note(NO_MORE_NAMES)
        return full

    def _job(self) -> Job | None:
        files = _files(self._ledger)
        counts: dict[str, int] = {}
        for segment in files:
            counts[segment.table] = counts.get(segment.table, 0) + 1
        size, now = sum(s.bytes for s in files), time.monotonic()
        pressing = size > self._most * _PRESSING and now - self._since >= self._wait
        many = any(n - self._left.get(t, 0) >= _FILES for t, n in counts.items())
        if not pressing and not many:
            return None
        if pressing:
            helped = size < self._bytes * 0.9
            self._wait = _FIRST_WAIT_S if helped else min(self._wait * 2, _LONGEST_WAIT_S)
            self._bytes, self._since = size, now
        self._left = counts
        # What is more than can be read at once is no longer put together.
        much = size > min(self._most * _PRESSING, _MOST_BYTES / 2)
        return NamesJob(self._ledger, self._left, self.search if much else None)


class Search:
    """Looks for what no row that stays names.

    Attributes:
        gone: tables and numbers of what has no row any more; who knows them should forget them.
    """

    def __init__(self) -> None:
        self.gone: deque[tuple[str, int]] = deque()
        self._last, self._cost = float("-inf"), 0.0

    def named(self, ledger: Ledger) -> dict[str, set[int]]:
        """Return the numbers that rows name, by table; nothing when it is too early or unknown."""
        if time.monotonic() - self._last < self._cost / _SHARE:
            return {}
        start = time.thread_time()
        try:
            return needed(ledger)
        except (FormatError, OSError):
            return {}
        finally:
            self._last, self._cost = time.monotonic(), time.thread_time() - start


class NamesJob:
    """Put the oldest files of each table of names together, without what nothing needs."""

    name = "names"
    held_bytes = 0

    def __init__(self, ledger: Ledger, left: dict[str, int], search: Search | None = None) -> None:
        """Prepare.

        Args:
            ledger: the manifest.
            left: gets the number of files of each table that was looked at.
            search: finds what nothing names, and is told what went; None to keep that.
        """
        self._ledger = ledger
        self._left = left
        self._search = search
        self._asked_ns = time.time_ns()

    def run(self) -> None:
        """Do it, or go on with it.

        The first file is replaced in one step, and has all that the others have; then the manifest
        says that they go. A kill in between leaves rows twice, or files that recovery removes.
        """
        with self._ledger.change(quiet=True) as manifest:
            tables = [t for t in manifest.tables.values() if is_put_together(t)]
        begin = self._begin_ns()
        named = self._search.named(self._ledger) if self._search else {}
        for table in tables if begin is not None else ():
            self._put_together(table, begin, named.get(table.name))
        self._ledger.save()
        self._ledger.unlink()

    def _begin_ns(self) -> int | None:
        """Return a time before all rows that stay, UTC in ns; None when it cannot be told."""
        times = [self._asked_ns]
        for journal in self._ledger.folder.glob("*/[0-9]*.journal"):
            try:
                times.append(_first_ns(journal))
            except FormatError:
                return None
        with self._ledger.change(quiet=True) as manifest:
            for segment in self._ledger.segments():
                table = manifest.tables.get(segment.table)
                removed = manifest.removed.get(segment.table)
                # What was kept of removed ones is of the time when the rest begins.
                kept = removed is not None and sequence_of(segment.file) <= removed.through
                if table is None or table.role == "dictionary" or kept:
                    continue
                if segment.first_ns is not None:
                    times.append(segment.first_ns)
        return min(times) - _SLACK_NS

    def _put_together(self, table: Table, begin_ns: int | None, named: set[int] | None) -> None:
        batch = list(self._batch(table))
        if begin_ns is None or len(batch) < 2:
            return
        read: list[tuple[Segment, pa.Table]] = []
        for segment in batch:
            try:
                read.append((segment, read_rows(self._ledger.folder / segment.file, table)))
            except FormatError as exc:
                self._ledger.note(f"{exc}: the names in it are lost")
        kept: Segment | None = None
        unnamed: set[int] = set()
        if read:
            left = names_left(table, pa.concat_tables([rows for _, rows in read]), begin_ns)
            if named is not None:
                left, unnamed = _without_unnamed(table, left, named)
            target = self._ledger.folder / read[0][0].file
            with SegmentFile(table, target, left.num_rows) as file:
                file.write(left.cast(table.arrow_schema))
                kept = file.finish()
        through = max(sequence_of(s.file) for s in batch)
        with self._ledger.change():
            for segment in batch:
                if kept is None or segment.file != kept.file:
                    self._ledger.remove(segment, through)
                    self._ledger.going.append(self._ledger.folder / segment.file)
            if kept is not None:
                self._ledger.add(kept)
        if self._search is not None:
            self._search.gone.extend((table.name, number) for number in unnamed)
        self._left[table.name] = self._left.get(table.name, 0) - len(batch) + 1

    def _batch(self, table: Table) -> Iterator[Segment]:
        """Yield the oldest files, up to one that is not written yet."""
        with self._ledger.change(quiet=True) as manifest:
            removed = manifest.removed.get(table.name)
        files = self._ledger.segments(table.name)
        number, size = removed.through if removed else 0, 0
        for segment in sorted(files, key=lambda s: sequence_of(s.file)):
            size += segment.bytes
            found = sequence_of(segment.file)
            if found > number + 1 or size > _MOST_BYTES:
                return
            number = max(number, found)
            yield segment


def names_left(table: Table, rows: pa.Table, begin_ns: int) -> pa.Table:
    """Return the rows that times from `begin_ns` on (UTC) may need, equal ones once.

    Of those that another one replaced before `begin_ns`, the last of each key stays.
    """
    order = pa.array(range(rows.num_rows), pa.int64())
    once = rows.append_column(_ORDER, order).group_by(rows.column_names)
    rows = rows.take(
        pa.array(sorted(once.aggregate([(_ORDER, "max")])[f"{_ORDER}_max"].to_pylist()))
    )
    if table.name not in REPLACED:
        return rows
    keys, since = REPLACED[table.name]
    unknown = -(1 << 63) if table.name in _FROM_THE_START else None
    times = [unknown if t is None else t for t in rows[since].to_pylist()]
    things = list(zip(*(rows[key].to_pylist() for key in keys), strict=True))
    last: dict[tuple[object, ...], int] = {}
    for thing, at in zip(things, times, strict=True):
        if at is not None and at < begin_ns:
            last[thing] = max(at, last.get(thing, at))
    stay = [
        at is None or at >= last.get(thing, at) for thing, at in zip(things, times, strict=True)
    ]
    return rows.filter(pa.array(stay, pa.bool_()))


def _without_unnamed(table: Table, rows: pa.Table, named: set[int]) -> tuple[pa.Table, set[int]]:
    """Return the rows whose number is one of `named`, and the numbers of the others."""
    numbers = rows[KEYS[table.name][0]].to_pylist()
    unnamed = set(numbers) - named
    stay = [number not in unnamed for number in numbers]
    return rows.filter(pa.array(stay, pa.bool_())), unnamed


def _files(ledger: Ledger) -> list[Segment]:
    with ledger.change(quiet=True) as manifest:
        names = [name for name, table in manifest.tables.items() if is_put_together(table)]
    return [segment for name in names for segment in ledger.segments(name)]


def _first_ns(journal: Path) -> int:
    """Return the first time in a journal, UTC in ns; FormatError when it has none yet."""
    try:
        reader = JournalReader(journal)
        frame = next(reader.frames(), None)
    except OSError as exc:
        raise FormatError(f"{journal} cannot be read: {exc.strerror or exc}") from exc
    column = next((c.name for c in reader.table if c.type is MONO), None)
    if frame is None or column is None or not len(frame.records):
        raise FormatError(f"{journal} has no time")
    return int(frame.records[column].min()) + frame.wall_offset_ns
