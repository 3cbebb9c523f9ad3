"""`--disk-budget`: the oldest segments go when a recording has grown too large.

Segments of events and series go, whichever table has the oldest, so that what stays is complete
from one moment on. Dictionaries stay: they explain the rest (names.py). A table that has a row for
each change would lose what was true when the rest began, so its last rows of each key stay.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pyarrow as pa

from droptape.format.errors import FormatError
from droptape.format.layout import sequence_of
from droptape.format.manifest import Segment
from droptape.format.removal import set_back_ns, true_end
from droptape.format.schema import Table
from droptape.format.tables import COUNTERS, LISTENERS

from .ledger import Ledger
from .segment import SegmentFile, read_rows
from .state import counters_left, listeners_left

_FREE, _FREE_MOST, _FREE_BYTES = 0.1, 0.25, 4 << 20
"""Parts of the budget, at least and at most, and bytes that stay free if the latter allows: a
segment is on disk twice while it is sealed, and a flood writes megabytes between two looks."""
_SMALL, _QUIET = 1 / 16, 36
"""Part of the size of a segment, and how much longer a journal waits that has not even that."""
_LOOK_S = 10.0
_JOURNALS = "*/*.journal*"
STATES = {COUNTERS.name: counters_left, LISTENERS.name: listeners_left}
"""Tables with a row for each change, and what has to stay of their rows."""


def filled(budget: int) -> float:
    """Return up to how many bytes of a budget are used before something has to go."""
    return budget - max(budget * _FREE, min(budget * _FREE_MOST, _FREE_BYTES))


def rotate_bytes(budget: int, wanted: int) -> int:
    """Return at which size to seal a journal, so that what is removed at once is a small part."""
    return min(wanted, budget // 8)


def longest(size: int, rotate_bytes: int, rotate_seconds: float) -> float:
    """Return how many seconds a journal of `size` bytes may stay open.

    A recording of weeks would fill with small files where little happens, and with it the manifest,
    which is written anew for each.
    """
    return rotate_seconds * (_QUIET if size < rotate_bytes * _SMALL else 1)


def used_bytes(ledger: Ledger) -> int:
    """Return the size of all segments and journals on disk."""
    total = ledger.sealed_bytes
    for journal in ledger.folder.glob(_JOURNALS):
        with contextlib.suppress(FileNotFoundError):
            total += journal.stat().st_size
    return total


class Journals:
    """What the journals of a recording take.

    The folders of a recording of weeks have thousands of files: too many to look at every second.
    """

    def __init__(self, folder: Path) -> None:
        """Count those in `folder`, also of earlier and damaged ones."""
        self._folder = folder
        self._known: set[Path] = set()
        self._looked = float("-inf")

    def add(self, journal: Path) -> None:
        """Count a new journal at once."""
        self._known.add(journal)

    def bytes(self) -> int:
        """Return their size, kept ones that are damaged included."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._known = set(self._folder.glob(_JOURNALS))
        total = 0
        for journal in self._known:
            with contextlib.suppress(FileNotFoundError):
                total += journal.stat().st_size
        return total


def over(ledger: Ledger, journals: Journals, budget: int) -> bool:
    """Say whether something has to go."""
    return ledger.sealed_bytes + journals.bytes() > filled(budget)


class TrimJob:
    """Remove the oldest segments until the recording keeps its budget."""

    name = "disk budget"
    held_bytes = 0

    def __init__(self, ledger: Ledger, budget: int) -> None:
        """Prepare.

        Args:
            ledger: the manifest.
            budget: bytes.
        """
        self._ledger = ledger
        self._budget = budget

    def run(self) -> None:
        """Remove, or go on with it.

        The manifest says first what goes, so that a kill in between leaves nothing unexplained:
        recovery removes what the manifest calls removed. On a full disk there is no room for the
        new manifest before something went.
        """
        excess = used_bytes(self._ledger) - filled(self._budget)
        skipped: set[str] = set()
        while excess > 0:
            oldest = _oldest(self._ledger, skipped)
            if oldest is None:
                if self._used_too_much():
                    self._ledger.note("the disk budget is less than what has to stay needs")
                break
            left = self._take(oldest)
            if left is None:
                skipped.add(oldest.table)
            else:
                excess -= oldest.bytes - left
        try:
            self._ledger.save()
        except OSError:
            self._ledger.unlink()
            self._ledger.save()
        self._ledger.unlink()

    def _used_too_much(self) -> bool:
        return used_bytes(self._ledger) > self._budget

    def _take(self, segment: Segment) -> int | None:
        """Take a segment out of the manifest; return the bytes that stay of it.

        None when what has to stay could not be written.
        """
        table = self._table(segment)
        if table.name in STATES:
            try:
                state = self._keep_state(segment, table)
            except (OSError, pa.ArrowException) as exc:
                self._ledger.note(f"{segment.file} was not removed: {exc}")
                return None
            if state is not None:
                self._ledger.remove(segment, sequence_of(segment.file))
                self._ledger.add(state)
                return state.bytes
        self._ledger.remove(segment, sequence_of(segment.file))
        self._ledger.going.append(self._ledger.folder / segment.file)
        return 0

    def _table(self, segment: Segment) -> Table:
        with self._ledger.change(quiet=True) as manifest:
            return manifest.tables[segment.table]

    def _keep_state(self, segment: Segment, table: Table) -> Segment | None:
        """Replace a segment by the last row of each key, of it and of what was kept before.

        None when the segment itself cannot be read: then what was kept before stays as it is.
        """
        rows = self._rows(segment, table)
        if rows is None:
            return None
        with self._ledger.change(quiet=True) as manifest:
            removed = manifest.removed.get(table.name)
        kept = [
            s for s in (self._ledger.segments(table.name) if removed else ())
            if removed and sequence_of(s.file) <= removed.through
        ]  # fmt: skip
        before = [r for r in (self._rows(s, table) for s in kept) if r is not None]
        left = STATES[table.name](pa.concat_tables([*before, rows]))
        with SegmentFile(table, self._ledger.folder / segment.file, left.num_rows) as file:
            file.write(left.cast(table.arrow_schema))
            state = file.finish()
        for old in kept:
            self._ledger.drop(old)
            self._ledger.going.append(self._ledger.folder / old.file)
        return state

    def _rows(self, segment: Segment, table: Table) -> pa.Table | None:
        """Return the rows of a segment; None, and a note, when it is damaged or gone.

        It will be no better the next time: waiting for it would end the removing for good.
        """
        try:
            return read_rows(self._ledger.folder / segment.file, table)
        except FormatError as exc:
            self._ledger.note(f"{exc}: what it said of the time before the rest is lost")
            return None


def _oldest(ledger: Ledger, skipped: set[str]) -> Segment | None:
    """Return the segment that goes next: of the first of each table, the one that ended first."""
    now = time.time_ns()
    with ledger.change(quiet=True) as manifest:
        tables = [t.name for t in manifest.tables.values() if t.role != "dictionary"]
        # Up to there is what was kept of removed ones.
        after = {name: removed.through for name, removed in manifest.removed.items()}
        found = [ledger.first(name, after.get(name, -1)) for name in tables if name not in skipped]

        def ended(segment: Segment) -> int:
            last, number = segment.last_ns or 0, sequence_of(segment.file)
            stay = ledger.segments(segment.table) if moved else ()
            return true_end(manifest, segment.table, number, last, now, stay)

        moved = set_back_ns(manifest.clocks) > 0
        return min((s for s in found if s is not None), key=ended, default=None)
