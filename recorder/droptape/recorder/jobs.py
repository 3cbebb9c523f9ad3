"""What the sealing thread does: each job can be run again after it failed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from droptape.format.errors import DroptapeError, FormatError
from droptape.format.manifest import Segment, sync_folder
from droptape.format.schema import Table

from .ledger import Ledger
from .seal import DAMAGED, Sealed, seal_journal, unreadable
from .segment import SegmentFile


class DeletedError(DroptapeError):
    """What a job works on is there no more."""


class DamagedError(DroptapeError):
    """What a job works on was changed by somebody else."""


class Job(Protocol):
    """Work for the disk.

    `run` raises OSError when the disk does not let it; running it again goes on where it stopped.

    Attributes:
        name: the same for jobs of which one that waits will do.
        held_bytes: memory that it takes while it waits.
    """

    name: str
    held_bytes: int

    def run(self) -> None:
        """Do it, or go on with it."""


class SaveJob:
    """Write the manifest."""

    name = "recording.json"
    held_bytes = 0

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run(self) -> None:
        """Write it if it changed."""
        self._ledger.save()


class SealJob:
    """Make a segment of a closed journal.

    The order is what makes a kill harmless at any point. The segment appears under its final name
    only when it is whole and on disk, and from then on readers ignore the journal of the same
    sequence (droptape.format.layout). The journal goes when the manifest on disk has the segment.
    """

    held_bytes = 0

    def __init__(
        self, ledger: Ledger, journal: Path, rows: int, whole_bytes: int | None = None
    ) -> None:
        """Prepare.

        Args:
            ledger: the manifest.
            journal: what to seal.
            rows: how many it was given.
            whole_bytes: what follows these is a part of a frame that is in another journal; None
                for a journal that has no such part.
        """
        self.name = f"{journal.parent.name}/{journal.name}"
        self._ledger = ledger
        self._journal = journal
        self._rows = rows
        self._whole_bytes = whole_bytes
        self._sealed: Sealed | None = None

    def run(self) -> None:
        """Seal, record, remove the journal.

        Raises:
            DeletedError: somebody else has removed it.
            DamagedError: somebody else has changed it.
        """
        try:
            self._run()
        except FileNotFoundError as exc:
            if self._journal.exists() or not self._ledger.intact():
                raise
            if self._sealed is None:
                raise DeletedError(
                    f"{self.name} was deleted before it was sealed, with {self._rows:,} rows"
                ) from exc

    def _run(self) -> None:
        if self._whole_bytes is not None:
            os.truncate(self._journal, self._whole_bytes)
            self._whole_bytes = None
        if self._sealed is None:
            try:
                self._sealed = seal_journal(self._journal, self._ledger.started_ns)
            except FormatError as exc:
                self._sealed = unreadable(self._journal, exc)
            if self._sealed.rows < self._rows:
                damage = self._sealed.damage or "others are gone"
                self._sealed = replace(self._sealed, damage=damage, torn=False)
        record_and_retire(self._ledger, self._journal, self._sealed)
        if self._sealed.rows < self._rows:
            read = f"{self._sealed.rows:,} of {self._rows:,} rows"
            raise DamagedError(f"{self.name} was damaged by another program: {read} could be read")


def record_and_retire(ledger: Ledger, journal: Path, sealed: Sealed) -> None:
    """Put `sealed` into the manifest on disk, then remove its journal.

    A journal with damage is kept under another name, for whoever wants to look into it.
    """
    if sealed.segment is not None:
        ledger.add(sealed.segment)
    if sealed.damage:
        told = f"{sealed.rows:,} rows read; {sealed.damage}; kept as {journal.name}{DAMAGED}"
        name = f"{journal.parent.name}/{journal.name}"
        if sealed.torn:  # as any `kill -9` may leave it: no row of it had been acknowledged
            ledger.note(f"{name}: {told}")
        else:
            ledger.damaged(name, told)
    ledger.save()
    if sealed.damage:
        journal.replace(journal.with_name(journal.name + DAMAGED))
    else:
        journal.unlink(missing_ok=True)
    sync_folder(journal.parent)


class DictionaryJob:
    """Write rows of a dictionary table as one file.

    The manifest follows within a second, once for all files of that second; recovery finds what it
    does not list.
    """

    def __init__(self, ledger: Ledger, table: Table, target: Path, rows: pa.Table) -> None:
        self.name = f"{target.parent.name}/{target.name}"
        self._ledger = ledger
        self._table = table
        self._target = target
        self._rows = rows
        self.held_bytes = rows.nbytes
        self._segment: Segment | None = None

    def run(self) -> None:
        """Write the file and record it."""
        if self._segment is None:
            self._ledger.check()
            self._target.parent.mkdir(mode=0o750, exist_ok=True)
            with SegmentFile(self._table, self._target, self._rows.num_rows) as file:
                file.write(self._rows)
                self._segment = file.finish()
                self._ledger.add(self._segment)
