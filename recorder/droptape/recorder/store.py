"""The folder of a recording while it is being written."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from droptape.format.amount import amounts
from droptape.format.decode import Records, rows_to_arrow
from droptape.format.journal import JournalWriter, record_frame
from droptape.format.layout import LOCK, MANIFEST, stem
from droptape.format.manifest import Manifest
from droptape.format.schema import Table
from droptape.format.tables import LOSSES

from . import budget
from .backlog import Backlog, Batch, LostRows
from .jobs import DictionaryJob, Job, SaveJob, SealJob
from .ledger import Ledger
from .lock import FolderLock
from .names import Names
from .place import StoreError, check_place
from .reserve import Reserve
from .worker import Worker

ROTATE_BYTES = 64 << 20
ROTATE_SECONDS = 60.0
MEMORY_BYTES = 64 << 20
_RETRY_SECONDS = 1.0


class Store:
    """A recording that grows.

    All methods belong to one thread, the recorder's loop; none of them waits for an fsync but
    `create` and `close`. Sealing and the manifest are the work of one thread of its own.

    Attributes:
        path: the folder.
        lost: events that a full disk made `append` drop, so far.
    """

    def __init__(
        self,
        lock: FolderLock,
        ledger: Ledger,
        tables: Mapping[str, Table],
        rotate_bytes: int,
        rotate_seconds: float,
        memory_bytes: int,
        disk_budget: int | None,
    ) -> None:
        """Use `Store.create`."""
        self.path = ledger.folder
        self._ledger = ledger
        self._lock = lock
        self._tables = dict(tables)
        self._reserve = Reserve(self.path)
        self._budget = None if disk_budget is None else disk_budget - self._reserve.bytes
        self._names = None if self._budget is None else Names(ledger, self._budget)
        self._journals = budget.Journals(self.path)
        if disk_budget is not None:
            rotate_bytes = budget.rotate_bytes(disk_budget, rotate_bytes)
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._open: dict[str, JournalWriter] = {}
        self._sequence: dict[str, int] = {}
        self._backlog = Backlog(memory_bytes)
        self._lost = LostRows()
        self._offset = 0
        self.lost = 0
        self._refusal = ""
        self._retry_at = 0.0
        self._checked_at = 0.0
        self._missing: set[str] = set()
        self._gone = False
        self._closed = False
        self._unsent: deque[Job] = deque()
        self._worker = Worker(ledger)

    @classmethod
    def create(
        cls,
        path: Path,
        manifest: Manifest,
        tables: Mapping[str, Table],
        *,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_seconds: float = ROTATE_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        disk_budget: int | None = None,
        made: Callable[[Path], None] = lambda path: None,
    ) -> Store:
        """Make the folder of a recording, lock it, and write its first manifest.

        Args:
            path: must not exist; its parent must.
            manifest: what is known at the start; its `tables` are set to `tables`. From here on
                change it through `update` only.
            tables: every table that will be written, enums filled in; one is LOSSES.
            rotate_bytes: size of a journal that makes `tick` seal it.
            rotate_seconds: age of a journal that makes `tick` seal it; with a disk budget small
                ones wait longer.
            memory_bytes: what is kept in memory while the disk is full, compressed.
            disk_budget: remove the oldest segments to stay below so many bytes.
            made: called with the new folder, which has its lock and manifest, before there is a
                second thread.

        Raises:
            StoreError: the folder cannot be made; nothing is left of it.
        """
        check_place(path)
        try:
            path.mkdir(mode=0o750)
        except OSError as exc:
            raise StoreError(f"{path} cannot be made: {exc.strerror}") from exc
        manifest.tables = dict(tables)
        ledger = Ledger(path, manifest)
        try:
            lock = FolderLock(path)
            ledger.save()
            made(path)  # last: a folder that cannot be filled has to be removed again
        except OSError as exc:
            shutil.rmtree(path, ignore_errors=True)
            raise StoreError(f"{path} cannot be written: {exc.strerror}") from exc
        try:
            return cls(
                lock, ledger, tables, rotate_bytes, rotate_seconds, memory_bytes, disk_budget
            )
        except RuntimeError:  # no thread is to be had
            lock.release()
            shutil.rmtree(path, ignore_errors=True)
            raise

    @property
    def trouble(self) -> str:
        """What goes wrong now, in one sentence, or ""."""
        if self._gone:
            return f"{self.path} was deleted or moved while it was recorded"
        if self._closed:
            return self._refusal
        if self._refusal:
            held = self._backlog.bytes / 1e6
            return f"{self._refusal}; {held:.0f} MB kept in memory until there is room"
        trouble = self._worker.trouble
        return f"{self.path}: {trouble}" if trouble else ""

    @property
    def gone(self) -> bool:
        """Whether the folder was deleted or moved; `tick` looks."""
        return self._gone

    @property
    def bytes(self) -> int:
        """Bytes on disk: sealed segments and open journals."""
        return self._ledger.sealed_bytes + sum(i.bytes for i in self._open.values())

    def update(self) -> AbstractContextManager[Manifest]:
        """Give the manifest to be changed, in a `with` block; it is written soon after."""
        return self._ledger.change()

    def append(self, table: str, records: Records, wall_offset_ns: int) -> None:
        """Append `records` (shape (rows,), dtype of `table`) to the journal of `table`.

        When this returns the rows are in the journal, which survives the end of this process; or
        the disk refused, and they are in memory; or they did not fit there either, and are counted
        as lost. `trouble` says which. Never raises OSError.
        """
        if not len(records):
            return
        self._offset = wall_offset_ns
        self._flush()
        batch = Batch(table, record_frame(records, wall_offset_ns), len(records))
        if not self._backlog and self._write(batch):
            # Between two ticks a flood could outgrow a small budget.
            if self._budget is not None and self._open[table].bytes >= self._rotate_bytes:
                self._rotate(table)
                self._send()
            return
        declared = self._tables[table]
        batch.events, batch.mono_ns = int(amounts(records).sum()), time.monotonic_ns()
        if not self._backlog.hold(batch, declared.role):
            self._lost.add(declared, records)
            self._count_lost(batch)

    def write_dictionary(self, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> None:
        """Write `rows` as one more file of a dictionary table, in the background.

        Args:
            table: a table of role ``dictionary``.
            rows: mappings by column name (`rows_to_arrow`), or columns of its `arrow_schema`.
        """
        declared = self._tables[table]
        data = rows if isinstance(rows, pa.Table) else rows_to_arrow(declared, rows)
        if not data.num_rows:
            return
        if self._names is not None and self._names.full(self._unsent, settled=not self._backlog):
            self._send()
            return
        target = self._next(table, ".parquet")
        self._sequence[table] = self._sequence.get(table, 0) + 1
        self._unsent.append(DictionaryJob(self._ledger, declared, target, data))
        self._send()

    def forgotten(self) -> Iterator[tuple[str, int]]:
        """Yield tables and numbers of names that were removed: they may be new again."""
        while self._names is not None and self._names.search.gone:
            yield self._names.search.gone.popleft()

    def tick(self, now: float | None = None) -> None:
        """Do what is due: rotate, try again what failed, save the manifest.

        Args:
            now: seconds as time.monotonic() gives them, which is the default.
        """
        now = time.monotonic() if now is None else now
        self._flush()
        for table, journal in list(self._open.items()):
            age = now - journal.since
            size, longest = journal.bytes, self._rotate_seconds
            if self._budget is not None:
                longest = budget.longest(size, self._rotate_bytes, longest)
            if size >= self._rotate_bytes or age >= longest:
                self._rotate(table)
        self._send()
        if now - self._checked_at >= _RETRY_SECONDS:
            self._checked_at = now
            self._worker.retry()
            self._trim()
            self._look_for_missing()
            self._send()
            if self._ledger.dirty:
                self._worker.submit(SaveJob(self._ledger))

    def discard(self) -> None:
        """End it as if it had never been: nothing was recorded yet."""
        self._closed = True
        self._worker.close()
        ours = self._ledger.intact() and self._lock.intact()
        self._lock.release()
        if ours:
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self, ended_by: str) -> None:
        """Seal everything and complete the manifest; may take seconds.

        What cannot be written stays as a journal and is noted; `trouble` then says so. Never
        raises OSError.

        Args:
            ended_by: why the recording ends, for its readers.
        """
        if self._closed:
            return
        if not self._ledger.intact() or not (self._lock.intact() or self._lock.renew()):
            self._gone = True
            self._worker.close()
            for journal in self._open.values():
                with contextlib.suppress(OSError):
                    journal.close()
            self._closed = True
            self._lock.release()
            return
        self._retry_at = 0.0
        self._flush()
        if self._refusal:
            self._reserve.shrink()
        for batch in self._backlog.drain():
            if self._tables[batch.table].role == "events" or not self._write(batch):
                self._lost.put(batch.table, batch.mono_ns, batch.events)
                self._count_lost(batch)
        self._write_losses()
        for table in list(self._open):
            self._rotate(table)
        if self._budget is not None:
            self._unsent.append(budget.TrimJob(self._ledger, self._budget))
        failures = self._worker.close(self._unsent)
        with self._ledger.change() as manifest:
            manifest.state = "complete"
            manifest.ended_ns = time.time_ns()
            manifest.ended_by = ended_by
            manifest.notes.extend(f for f in failures if f not in manifest.notes)
        if self.lost:
            failures.append(f"{self.lost:,} events were lost: the disk took no more")
        self._refusal = "; ".join(failures)
        self._reserve.release()
        try:
            self._ledger.save()
        except OSError as exc:
            problem = f"{self.path / MANIFEST} was not written: {exc.strerror or exc}"
            self._refusal = "; ".join((problem, *failures))
        self._closed = True
        self._lock.release()

    def _look_for_missing(self) -> None:
        """Make anew what was deleted, unless all is: the files of a folder go one by one."""
        missing = {table for table, journal in self._open.items() if journal.deleted}
        if not self._lock.intact():
            missing.add(LOCK)
        settled, self._missing = missing & self._missing, missing
        self._gone = not self._ledger.intact() or (LOCK in settled and not self._lock.renew())
        if not self._gone:
            for table in settled - {LOCK}:
                self._rotate(table)

    def _count_lost(self, batch: Batch) -> None:
        self.lost += batch.events
        with self._ledger.change() as manifest:
            causes = manifest.losses.setdefault(batch.table, {})
            causes["disk_full"] = causes.get("disk_full", 0) + batch.events

    def _write_losses(self) -> bool:
        """Put what was dropped into the table of losses; False when the disk refuses."""
        if not self._lost:
            return True
        rows = self._lost.records()
        written = self._write(Batch(LOSSES.name, record_frame(rows, self._offset), len(rows)))
        if written:
            self._lost.clear()
        return written

    def _next(self, table: str, ending: str) -> Path:
        sequence = self._sequence.get(table, 0) + 1
        return self.path / table / (stem(sequence, time.time_ns()) + ending)

    def _journal(self, table: str) -> JournalWriter:
        journal = self._open.get(table)
        if journal is None:
            self._ledger.check()
            path = self._next(table, ".journal")
            path.parent.mkdir(mode=0o750, exist_ok=True)
            journal = JournalWriter(path, self._tables[table], self._ledger.recording_id)
            self._open[table] = journal
            self._journals.add(path)
            self._sequence[table] = self._sequence.get(table, 0) + 1
        return journal

    def _write(self, batch: Batch) -> bool:
        """Append to the journal; False, and a time to try again, when the disk refuses."""
        try:
            self._journal(batch.table).append_frame(batch.frame, batch.rows)
        except OSError as exc:
            self._refuse(exc)
            journal = self._open.get(batch.table)
            if journal is not None and (journal.torn or exc.errno == errno.EFBIG):
                self._rotate(batch.table)
            return False
        return True

    def _refuse(self, exc: OSError) -> None:
        self._refusal = f"{self.path}: {exc.strerror or exc}"
        self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _flush(self) -> None:
        """Write what waits in memory, if the disk takes it again."""
        if not self._refusal or time.monotonic() < self._retry_at:
            return
        for batch in self._backlog.drain():
            if not self._write(batch):
                return
        if not self._write_losses():
            return
        self._refusal = ""

    def _rotate(self, table: str) -> None:
        journal = self._open.pop(table)
        try:
            if journal.close(restore=self._ledger.intact()):
                self._ledger.note(f"{table}: a journal was deleted; its rows are not lost")
        except OSError as exc:
            self._refuse(exc)
        self._trim()  # first: what is sealed is on disk twice for a while
        whole_bytes = journal.bytes if journal.torn else None
        self._unsent.append(SealJob(self._ledger, journal.path, journal.rows, whole_bytes))

    def _trim(self) -> None:
        if self._budget is None or any(job.name == budget.TrimJob.name for job in self._unsent):
            return
        if budget.over(self._ledger, self._journals, self._budget):
            self._unsent.append(budget.TrimJob(self._ledger, self._budget))

    def _send(self) -> None:
        while self._unsent and self._worker.submit(self._unsent[0]):
            self._unsent.popleft()
