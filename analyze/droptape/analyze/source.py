"""Reading what a recording's folder holds, without asking DuckDB yet.

A recording may be written to while it is read: a journal can turn into a sealed file, and the
oldest sealed file can be removed, between listing the folder and opening the file. Either is
answered by listing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.errors import FormatError, NewerFormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import MANIFEST, Listing, SegmentFile, being_recorded, listing
from droptape.format.manifest import Manifest
from droptape.format.plain import loads
from droptape.format.rollup import Rollup
from droptape.format.schema import Table
from droptape.format.tables import TABLES

from .bundle.container import is_bundle
from .errors import RecordingError, not_readable, refusal
from .footer import IP, only_ip, read_footer, rollups_of
from .integrity import Allowance, Integrity, doubts, removed, stray

TABLE_KEY = b"droptape.table"
"""Key of a table's declaration (JSON) in the footer of a sealed file."""

_ATTEMPTS, _NAMED = 5, 10

State = Literal["complete", "recovered", "recording", "interrupted", "unknown"]
"""`interrupted`: the recorder neither ended in order nor runs on this host."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be read, or not to its end; the rest of the recording is there."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(slots=True)
class StoredTable:
    """The files of one table.

    Attributes:
        table: the declaration.
        sealed: Parquet files, oldest first.
        schemas: the column names of each sealed file.
        sealed_rows: rows in them.
        bytes: size of sealed files and journals.
        journals: the rows of segments that are not sealed, one Arrow table each, until `release`.
        journal_rows: rows in them.
        only_ip: whether every row is of an IP packet, as far as footers tell.
        journal_files: the journals that were read.
        rollups: by name, of the sealed files that have one, until `release`.
    """

    table: Table
    sealed: list[Path] = field(default_factory=list)
    schemas: list[tuple[str, ...]] = field(default_factory=list)
    sealed_rows: int = 0
    bytes: int = 0
    journals: list[pa.Table] = field(default_factory=list)
    journal_rows: int = 0
    only_ip: bool = False
    journal_files: list[Path] = field(default_factory=list)
    rollups: dict[str, dict[Path, Rollup]] = field(default_factory=dict)

    def only(self, places: Sequence[int]) -> StoredTable:
        """Return the same with some of the sealed files, and all journals."""
        return replace(
            self,
            sealed=[self.sealed[at] for at in places],
            schemas=[self.schemas[at] for at in places],
        )

    def release(self) -> None:
        """Forget the rows of the journals and the rollups, once DuckDB has them."""
        self.journals, self.rollups = [], {}

    @property
    def rows(self) -> int:
        """All rows."""
        return self.sealed_rows + self.journal_rows


@dataclass(slots=True)
class Source:
    """One recording as found on disk.

    Attributes:
        path: its folder.
        name: short name, different for each opened recording; the `recording` column.
        manifest: recording.json, or None when it is missing or damaged.
        running: whether a recorder on this host writes to it now.
        tables: by name.
        problems: what could not be read.
        complete_from: when rows were removed to keep a disk budget: from when on nothing is
            missing, UTC in ns; the views begin there. None when nothing was removed.
        bundle: the file that it was unpacked from, None for a folder.
        unchecked: files whose content was not compared with the manifest's checksums.
    """

    path: Path
    name: str
    manifest: Manifest | None
    running: bool
    tables: dict[str, StoredTable] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete_from: int | None = None
    bundle: Path | None = None
    unchecked: int = 0

    def file(self, problem: Problem) -> str:
        """Return the file in this recording that a problem is about, "" when it is about others."""
        for place in (self.path, self.bundle):
            if place is not None and problem.path.is_relative_to(place):
                return problem.path.relative_to(place).as_posix()
        return ""

    @property
    def removed_until(self) -> int | None:
        """Time of the last row that was removed to keep a disk budget, UTC in ns."""
        removed = self.manifest.removed.values() if self.manifest else ()
        return max((part.last_ns for part in removed), default=None)

    @property
    def state(self) -> State:
        """How the recording ended, or that it has not."""
        if self.running:
            return "recording"
        if self.manifest is None:
            return "unknown"
        return "interrupted" if self.manifest.state == "recording" else self.manifest.state

    @property
    def journal_rows(self) -> int:
        """Rows that come from journals."""
        return sum(stored.journal_rows for stored in self.tables.values())


def load(
    path: Path, name: str, unpack_to: Path | None = None, allowance: Allowance | None = None
) -> Source:
    """Read the recording in `path`: manifest, footers of sealed files, whole journals.

    Args:
        path: its folder, or a bundle.
        name: what it is called.
        unpack_to: an empty folder, for a bundle.
        allowance: how much may be compared with checksums, of all that is opened together.

    Raises:
        RecordingError: `path` is no recording, or nothing of it can be read.
    """
    if unpack_to is not None and is_bundle(path):
        from .bundle.read import read

        read(path, unpack_to)
        source = load(unpack_to, name, allowance=allowance)
        source.bundle = path
        for at, problem in enumerate(source.problems):
            source.problems[at] = Problem(path / source.file(problem), problem.text)
        return source
    try:
        is_folder = path.is_dir()
    except OSError as exc:
        raise not_readable(path, exc) from exc
    if not is_folder:
        what = "is neither a recording's folder nor a bundle" if path.exists() else "does not exist"
        raise RecordingError(f"{path} {what}")
    if not _utf8(str(path)):
        raise RecordingError(f"{path} cannot be read: its name is not UTF-8, rename it")
    shared = allowance or Allowance()
    for _ in range(_ATTEMPTS):
        found = _manifest(path)
        source = _load(path, name, found, shared)
        # What does not fit the manifest may have come after it, or gone before it was read; and
        # the recorder may have ended in order since.
        fits = not source.problems and source.state != "interrupted"
        if fits or _manifest(path)[0] == found[0]:
            break
    return source


def _utf8(name: str) -> bool:
    """Say whether a name can be told to DuckDB, and written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _manifest(path: Path) -> tuple[Manifest | None, str]:
    try:
        return Manifest.read(path), ""
    except NewerFormatError as exc:
        raise RecordingError(str(exc)) from exc
    except FormatError as exc:
        return None, str(exc)


def _load(
    path: Path, name: str, found: tuple[Manifest | None, str], allowance: Allowance
) -> Source:
    manifest, reason = found
    source = Source(path, name, manifest, being_recorded(path))
    integrity = Integrity(path, manifest)
    source.problems += [Problem(file, text) for file, text in doubts(path, manifest)]
    if manifest is not None:
        source.manifest = replace(manifest, removed=removed(manifest))
    listings: dict[str, Listing] = {}
    for table in _table_names(path, manifest, integrity):
        if not _utf8(table):
            source.problems.append(Problem(path / table, "left out: its name is not UTF-8"))
            continue
        try:
            listings[table] = listing(path, table, integrity.listed)
        except OSError as exc:
            text = f"cannot be read: {exc.strerror or exc}, left out"
            source.problems.append(Problem(path / table, text))
    integrity.compare(listings.values(), allowance)
    source.unchecked = integrity.unchecked
    for table in listings:
        declared = manifest.tables.get(table) if manifest else None
        stored = _load_table(source, table, declared, integrity)
        if stored is not None:
            source.tables[table] = stored
    if manifest is None:
        if not source.tables:
            raise RecordingError(reason)
        source.problems.insert(0, Problem(path, f"{reason}; its tables are read without it"))
    return source


def _table_names(path: Path, manifest: Manifest | None, integrity: Integrity) -> list[str]:
    declared = dict.fromkeys(manifest.tables) if manifest else {}
    declared |= dict.fromkeys(segment.table for segment in integrity.listed.values())
    try:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as exc:
        raise not_readable(path, exc) from exc
    return [*declared, *(f for f in folders if f not in declared)]


def _load_table(
    source: Source, name: str, declared: Table | None, integrity: Integrity
) -> StoredTable | None:
    for attempt in range(_ATTEMPTS):
        reading = _Reading(source, name, declared, integrity, last=attempt == _ATTEMPTS - 1)
        try:
            stored = reading.read(listing(source.path, name, integrity.listed))
        except FileNotFoundError:
            continue  # sealed or removed since it was listed
        source.problems.extend(reading.problems)
        return stored
    raise AssertionError("the last attempt names the files that are gone")


class _Reading:
    """Reads the files of one table.

    Attributes:
        problems: what was left out, and why.
    """

    def __init__(
        self, source: Source, name: str, declared: Table | None, integrity: Integrity, *, last: bool
    ) -> None:
        self.problems: list[Problem] = []
        self._running = source.running
        self._path = source.path / name
        self._name = name
        self._table = declared
        self._integrity = integrity
        self._last = last
        self._sealed: list[tuple[Path, pq.FileMetaData]] = []
        self._journals: dict[Path, pa.Table] = {}
        self._starts: dict[bytes, Path] = {}
        self._bytes = 0

    def read(self, found: Listing) -> StoredTable | None:
        """Read all files; FileNotFoundError when one is gone, unless it is the last attempt."""
        for path in found.strays:
            self._problem(path, stray(path, found))
        for file in found.segments:
            if self._integrity.removed(file):
                continue
            try:
                self._read(file, found)
            except FileNotFoundError:
                if not self._last:
                    raise
                self._problem(file.path, "is gone, left out")
            except (
                FormatError, pa.ArrowException, OSError, ValueError, TypeError, RecursionError
            ) as exc:  # fmt: skip
                self._problem(file.path, _left_out(exc, file.path))
        self._name_missing(found)
        table = self._table or TABLES.get(self._name)
        if table is None:
            if self._sealed:
                self._problem(self._path, "has no declaration, left out")
            return None
        footers = [footer for _, footer in self._sealed]
        journals = list(self._journals.values())
        return StoredTable(
            table,
            [path for path, _ in self._sealed],
            [tuple(footer.schema.to_arrow_schema().names) for footer in footers],
            sum(int(footer.num_rows) for footer in footers),
            self._bytes,
            journals,
            sum(int(part.num_rows) for part in journals),
            all(only_ip(footer) for footer in footers)
            and not any(part[IP].null_count for part in journals if IP in part.column_names),
            list(self._journals),
            rollups_of(table, self._sealed),
        )

    def _problem(self, path: Path, text: str) -> None:
        self.problems.append(Problem(path, text))

    def _read(self, file: SegmentFile, found: Listing) -> None:
        wrong = self._integrity.wrong(file, found)
        if not wrong:
            wrong = self._sealed_file(file) if file.sealed else self._journal(file)
        if wrong:
            self._problem(file.path, wrong)
        else:
            self._bytes += file.path.stat().st_size

    def _sealed_file(self, file: SegmentFile) -> str:
        """Read the footer of a file; return why it is left out, "" when it is not."""
        footer = read_footer(file.path, whole=self._integrity.was_read(file))
        text = (footer.metadata or {}).get(TABLE_KEY)
        declaration = loads(text) if text else None
        if declaration is not None and declaration["name"] != self._name:
            return f"left out: it is a file of the table {str(declaration['name'])[:80]}"
        rows = self._integrity.rows(file)
        if rows is not None and rows != footer.num_rows:
            return f"left out: it has {footer.num_rows:,} rows, not {rows:,}"
        if self._table is None and declaration is not None:
            self._table = Table.from_json(declaration)
        self._sealed.append((file.path, footer))
        return ""

    def _journal(self, file: SegmentFile) -> str:
        reader = JournalReader(file.path)
        if reader.table.name != self._name:
            return f"left out: it is a journal of the table {reader.table.name}"
        if self._integrity.foreign(reader.recording):
            return "left out: it is a journal of another recording"
        rows = reader.read()
        copied = self._integrity.copied_journal(self._name, rows)
        if reader.start:
            copied = copied or self._starts.setdefault(reader.start, file.path).name
        if copied and copied != file.path.name:
            return f"left out: it is a copy of {copied}"
        self._table = self._table or reader.table
        self._journals[file.path] = rows
        # The end of a journal that is being written is often half a frame.
        if reader.damage and not self._running:
            self._problem(file.path, f"{reader.damage}; all whole frames are read")
        return ""

    def _name_missing(self, found: Listing) -> None:
        journals = {path.stem: rows.num_rows for path, rows in self._journals.items()}
        gone = self._integrity.missing(self._name, found, journals)
        for file in gone[:_NAMED]:
            more = len(gone) - _NAMED
            also = f", nor are {more:,} more" if more > 0 and file == gone[_NAMED - 1] else ""
            self._problem(self._path.parent / file, f"is in {MANIFEST}, but not there{also}")


def _left_out(exc: Exception, path: Path) -> str:
    """Say why a file is left out: in the first sentence of an error, which need not name it."""
    if refusal(exc):
        return f"cannot be read: {refusal(exc)}, left out"
    text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    why = text.replace(f"{path}: ", "").replace(f"{path}", "the file").split(". ")[0].rstrip(".")
    return f"not readable, left out ({why})"
