"""The manifest while it is being written to by the recorder's loop and its sealing thread."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from droptape.format.layout import MANIFEST
from droptape.format.manifest import Manifest, Removed, Segment, pieces, sync_folder, write_atomic
from droptape.format.removal import corrected

from .listed import Listed

_MAX_NOTES = 200


class Ledger:
    """recording.json and its copy in memory.

    Changes are made in memory, from any thread, inside `change`; `save` puts them on disk and
    belongs to one thread at a time, because it waits for the disk. The segments are here and not in
    the manifest that `change` gives.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.recording_id = manifest.recording_id
        self.started_ns = manifest.started_ns
        self._found = folder.lstat()
        self._manifest = manifest
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._changes = 0
        self._saved = -1
        self._listed = Listed(manifest.segments)
        manifest.segments = []
        self.going: list[Path] = []

    @contextmanager
    def change(self, *, quiet: bool = False) -> Iterator[Manifest]:
        """Give the manifest to be changed, or with `quiet` only read; other threads wait."""
        with self._lock:
            yield self._manifest
            self._changes += not quiet

    def note(self, text: str) -> None:
        """Add a sentence for readers of the recording, once."""
        with self.change() as manifest:
            if text not in manifest.notes and len(manifest.notes) < _MAX_NOTES:
                manifest.notes.append(text)

    def damaged(self, file: str, text: str) -> None:
        """Say what could not be read of a file, named ``<table>/<name>``."""
        with self.change() as manifest:
            if len(manifest.damaged) < _MAX_NOTES:
                manifest.damaged[file] = text

    @property
    def sealed_bytes(self) -> int:
        """Size of all segments."""
        with self._lock:
            return sum(self._listed.bytes.values())

    def bytes_of(self, table: str) -> int:
        """Return the size of all segments of a table."""
        return self._listed.bytes.get(table, 0)

    def segments(self, table: str | None = None) -> list[Segment]:
        """Return the segments of one table or of all: slow where there are many."""
        with self._lock:
            return list(self._listed.all() if table is None else self._listed.of(table))

    def first(self, table: str, after: int) -> Segment | None:
        """Return the oldest segment of a table that has a number above `after`."""
        with self._lock:
            return self._listed.first(table, after)

    def add(self, segment: Segment) -> None:
        """Add a sealed segment, or replace what is said of the same file."""
        with self.change():
            self._listed.put(segment)

    def drop(self, segment: Segment) -> None:
        """Forget a sealed segment whose rows are elsewhere, or are accounted for already."""
        with self.change():
            self._listed.drop(segment.table, segment.file)

    def remove(self, segment: Segment, through: int) -> None:
        """Say of a segment, number `through` of its table, that it went to keep the budget."""
        with self.change() as manifest:
            self._listed.drop(segment.table, segment.file)
            first, last = segment.first_ns or 0, segment.last_ns or 0
            before = manifest.removed.get(segment.table)
            removed = Removed(
                through=through,
                files=before.files + 1 if before else 1,
                rows=segment.rows + (before.rows if before else 0),
                bytes=segment.bytes + (before.bytes if before else 0),
                first_ns=min(first, before.first_ns) if before else first,
                last_ns=max(last, before.last_ns) if before else last,
            )
            manifest.removed[segment.table] = corrected(
                manifest, segment.table, removed, time.time_ns(), self._listed.of(segment.table)
            )

    def check(self) -> None:
        """Raise OSError when another folder, or none, has the name now: it is somebody else's."""
        if not os.path.samestat(self.folder.lstat(), self._found):
            raise OSError(errno.ENOENT, "the folder was moved", str(self.folder))

    def intact(self) -> bool:
        """Say whether the folder still has its name, as far as the disk tells."""
        try:
            self.check()
        except OSError as exc:
            return exc.errno not in (errno.ENOENT, errno.ENOTDIR)
        return True

    @property
    def dirty(self) -> bool:
        """Whether there are changes that are not on disk."""
        return self._saved != self._changes

    def save(self) -> None:
        """Write recording.json if it changed; OSError when that fails."""
        with self._saving:
            with self._lock:
                changes = self._changes
                if changes == self._saved:
                    return
                # The rest needs no lock: the recorder's loop would wait for it.
                head, lines = self._manifest.head(), self._listed.chunks()
            self.check()
            write_atomic(self.folder / MANIFEST, pieces(head, lines))
            self._saved = changes

    def unlink(self) -> None:
        """Remove the files in `going`; OSError when one cannot be, which then stays in there."""
        going, self.going = self.going, []
        refused: OSError | None = None
        for path in going:
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                refused = exc
                self.going.append(path)
        for folder in {path.parent for path in going}:
            with suppress(FileNotFoundError):
                sync_folder(folder)
        if refused is not None:
            raise refused
