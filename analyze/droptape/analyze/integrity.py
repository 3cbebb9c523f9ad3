"""Whether the files of a recording are those that were written.

The manifest lists each sealed file with its size and SHA-256. What is not as listed is left out and
named: a file that is not the one that was written must not be counted silently. While a recording
is written, and after its recorder was killed, the newest files are not listed yet.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.layout import LOCK, MANIFEST, Listing, SegmentFile, added_later, sequence_of
from droptape.format.manifest import Manifest, Removed, Segment, sha256
from droptape.format.removal import corrected, is_put_together
from droptape.format.tables import TABLES

from . import interrupt
from .errors import refusal
from .window import is_state

EVENT_BYTES = 64 << 20
"""Of the files of events so much is compared when recordings are opened; of the others all."""
_THREADS = 4
_AFTER_NS = 1_000_000_000
NOT_REGULAR = "is no regular file"


class Allowance:
    """Bytes that one opening may still compare."""

    def __init__(self, left: int = EVENT_BYTES) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        """Take `size` bytes; False when they are not left."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Integrity:
    """What a manifest says of the files of its recording.

    Attributes:
        listed: the sealed files that it lists, by ``<table>/<name>``.
        finished: whether it lists all of them.
        unchecked: files whose content was not compared, nor their pages read.
    """

    def __init__(self, folder: Path, manifest: Manifest | None) -> None:
        self._folder = folder
        self._manifest = manifest
        self.listed: Mapping[str, Segment] = (
            {s.file: s for s in manifest.segments} if manifest else {}
        )
        self.finished = manifest is not None and manifest.state != "recording"
        self.unchecked = 0
        self._compared: set[str] = set()
        self._digests: dict[str, str] = {}
        self._damage: dict[str, str] = {}
        self._oldest: dict[str, list[str]] = {}

    def compare(self, listings: Iterable[Listing], allowance: Allowance) -> None:
        """Read what the checks need, several files at once.

        Of a file that no manifest lists that is every page: DuckDB does not look at checksums.
        """
        whole: list[tuple[str, Path]] = []
        paged: list[tuple[str, Path]] = []
        for segment, name in self._by_role(listings):
            listed = self.listed.get(name)
            try:
                size = segment.path.stat().st_size
            except OSError:
                continue
            if listed is not None and (size != listed.bytes or self._replaceable(listed)):
                continue
            if not self._is_events(segment.table) or allowance.take(size):
                self._compared.add(name)
                (paged if listed is None else whole).append((name, segment.path))
            else:
                self.unchecked += 1
        with interrupt.later(), ThreadPoolExecutor(_THREADS) as pool:
            self._digests = _by_name(pool, _digest_or_not, whole)
            self._damage = _by_name(pool, _pages_or_not, paged)

    def _by_role(self, listings: Iterable[Listing]) -> list[tuple[SegmentFile, str]]:
        files = [(f, name_of(f)) for one in listings for f in one.segments if f.sealed]
        return sorted(files, key=lambda item: self._is_events(item[0].table))

    def _is_events(self, table: str) -> bool:
        declared = (self._manifest.tables if self._manifest else TABLES).get(table)
        return declared is None or declared.role == "events"

    def _replaceable(self, segment: Segment) -> bool:
        """Say whether the disk budget may have put another file in its place, not yet listed.

        That happens to the first of a table of states or names, or to the second when the first was
        so.
        """
        table = self._manifest.tables.get(segment.table) if self._manifest else None
        if self.finished or table is None or self._manifest is None:
            return False
        if self._manifest.options.get("disk_budget") is None:
            return False
        if not is_state(table) and not is_put_together(table):
            return False
        if table.name not in self._oldest:
            files = sorted(f for f, s in self.listed.items() if s.table == table.name)
            self._oldest[table.name] = files[:2]
        return segment.file in self._oldest[table.name]

    def was_read(self, file: SegmentFile) -> bool:
        """Say whether all of a sealed file was read, once `wrong` found nothing wrong with it."""
        return name_of(file) in self._compared

    def rows(self, file: SegmentFile) -> int | None:
        """Return how many rows a sealed file must have; None when nothing says that."""
        listed = self.listed.get(name_of(file))
        return None if listed is None or self._replaceable(listed) else listed.rows

    def removed(self, file: SegmentFile) -> bool:
        """Say whether the manifest calls a file removed that is still there."""
        part = self._manifest.removed.get(file.table) if self._manifest else None
        gone = part is not None and file.sealed and file.sequence <= part.through
        return gone and name_of(file) not in self.listed

    def wrong(self, file: SegmentFile, beside: Listing) -> str:
        """Return why a file is left out, "" when it is not.

        Raises:
            FileNotFoundError: it is gone.
            OSError: it cannot be looked at.
        """
        irregular = not_regular(file.path)
        if irregular:
            return f"{irregular}, left out"
        if not file.sealed:
            return ""
        name = name_of(file)
        listed = self.listed.get(name)
        if listed is None:
            return self._unlisted(file, beside)
        if self._replaceable(listed):
            return ""
        size = file.path.stat().st_size
        if size != listed.bytes:
            return f"not readable, left out (it has {size:,} bytes, not {listed.bytes:,})"
        if self._digests.get(name, listed.sha256) not in ("", listed.sha256):
            return "left out: it is not as it was written (its SHA-256 differs)"
        return ""

    def _unlisted(self, file: SegmentFile, beside: Listing) -> str:
        later = added_later(file.table)
        # A journal goes when the file that it became is listed: recovery may be at it.
        becoming = os.path.lexists(file.path.with_suffix(".journal"))
        if self.finished and not later and not becoming:
            return f"left out: it is not in {MANIFEST}"
        other = self._copied(file, beside)
        if other:
            return f"left out: it is a copy of {other}"
        newest = max(
            (sequence_of(f) for f, s in self.listed.items() if s.table == file.table), default=-1
        )
        if file.sequence <= newest and not later and not becoming:
            return f"left out: it is not in {MANIFEST}"
        damage = self._damage.get(name_of(file), "")
        return f"not readable, left out ({damage})" if damage else ""

    def _copied(self, file: SegmentFile, beside: Listing) -> str:
        """Return the file with the same content that counts instead, "" when there is none."""
        if added_later(file.table):
            return ""
        size = file.path.stat().st_size
        for other in beside.segments:
            listed = self.listed.get(name_of(other))
            earlier = listed is not None or other.sequence < file.sequence
            if other.path == file.path or not other.sealed or not earlier:
                continue
            with suppress(OSError):
                if other.path.stat().st_size == size and digest(other.path) == digest(file.path):
                    return other.path.name
        return ""

    def foreign(self, recording: str) -> bool:
        """Say whether this id, "" if it is not known, is that of another recording."""
        return self._manifest is not None and recording not in ("", self._manifest.recording_id)

    def copied_journal(self, table: str, rows: pa.Table) -> str:
        """Return the sealed file that has the rows of a journal already, "" when none has."""
        if "ts_ns" not in rows.column_names or not rows.num_rows:
            return ""
        times = rows["ts_ns"].to_numpy()
        first, last = int(times.min()), int(times.max())
        for file, segment in self.listed.items():
            if segment.table == table and segment.has(rows.num_rows, first, last):
                return file.partition("/")[2]
        return ""

    def missing(self, table: str, beside: Listing, journals: Mapping[str, int]) -> list[str]:
        """Return the listed files of `table` that are not there.

        Args:
            table: its name.
            beside: what is there.
            journals: rows of the journals, by name without ending: in a recording that was copied
                while it ran, one may stand for the file that it became.
        """
        present = {name_of(file) for file in beside.segments}
        return [
            file
            for file, segment in self.listed.items()
            if segment.table == table
            and file not in present
            and journals.get(Path(file).stem, -1) < segment.rows
        ]


def doubts(folder: Path, manifest: Manifest | None) -> Iterator[tuple[Path, str]]:
    """Yield what is impossible about a recording as a whole, and what it says that it lost."""
    lock = folder / LOCK
    with suppress(OSError):
        irregular = not_regular(lock)
        if irregular:
            yield lock, f"{irregular}: whether it is being recorded is not known"
    if manifest is None:
        return
    for table in sorted(set(_removed_rows(manifest)) - set(removed(manifest))):
        text = f"says that {table} was removed up to a time after its end, which is not so"
        yield folder / MANIFEST, text
    for file, text in manifest.damaged.items():
        # The manifest may be anybody's, and say anything.
        place = folder / file
        inside = place.is_relative_to(folder) and ".." not in place.parts[len(folder.parts) :]
        yield place if inside else folder, text


def removed(manifest: Manifest) -> dict[str, Removed]:
    """Return what was removed and can have been: what is not after it is hidden from answers.

    Times of a clock that ran ahead until it was set back are those of what stays.
    """
    ended = manifest.ended_ns if manifest.ended_ns is not None else time.time_ns()
    parts = {t: corrected(manifest, t, p, ended) for t, p in _removed_rows(manifest).items()}
    return {t: part for t, part in parts.items() if part.last_ns <= ended + _AFTER_NS}


def _removed_rows(manifest: Manifest) -> dict[str, Removed]:
    """Leave out names: what is left of them explains all that is left."""
    names = {t for t, table in manifest.tables.items() if is_put_together(table)}
    return {t: part for t, part in manifest.removed.items() if t not in names}


def name_of(file: SegmentFile) -> str:
    """Return a segment's path in its recording."""
    return f"{file.table}/{file.path.name}"


def stray(path: Path, beside: Listing) -> str:
    """Return why a file that no recorder leaves is left out."""
    number = sequence_of(path.name)
    same = [f.path.name for f in beside.segments if f.sequence == number]
    if same:
        return f"left out: {same[0]} has the same number"
    return "left out: it has not the name of a segment"


def not_regular(path: Path) -> str:
    """Return what keeps `path` from being a file to read, "" when nothing does."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return "is a link to nothing"
        raise
    return "" if stat.S_ISREG(mode) else NOT_REGULAR


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, the same as before while nobody changed it."""
    found = path.stat()
    return _digest(path, found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, *unchanged: int) -> str:
    del unchanged
    return sha256(path)


def _digest_or_not(path: Path) -> str:
    try:
        return digest(path) if not not_regular(path) else ""
    except OSError:
        return ""


def _pages_or_not(path: Path) -> str:
    try:
        return pages(path) if not not_regular(path) else ""
    except OSError:
        return ""


def _by_name(
    pool: ThreadPoolExecutor, read: Callable[[Path], str], files: list[tuple[str, Path]]
) -> dict[str, str]:
    found = pool.map(read, [path for _, path in files])
    return dict(zip([name for name, _ in files], found, strict=True))


def pages(path: Path | pa.NativeFile) -> str:
    """Read every page of a file, with its checksum; return what is wrong, "" when nothing is.

    Raises:
        OSError: the system does not let it be read; FileNotFoundError when it is gone.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError, ValueError) as exc:
        if refusal(exc):
            raise
        return (str(exc).splitlines() or [type(exc).__name__])[0]
    return ""
