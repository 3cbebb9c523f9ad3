"""Reading what a recording's folder holds, without asking DuckDB yet.

A recording may be written to while it is read: a journal can turn into a sealed file, and the
oldest sealed file can be removed, between listing the folder and opening the file. Either is
answered by listing again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import SegmentFile, being_recorded, segments
from droptape.format.manifest import Manifest
from droptape.format.schema import Table
from droptape.format.tables import TABLES

from .bundle.container import is_bundle
from .errors import RecordingError

TABLE_KEY = b"droptape.table"
"""Key of a table's declaration (JSON) in the footer of a sealed file."""

_ATTEMPTS = 5
_IP = "ip_version"

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
    """

    table: Table
    sealed: list[Path] = field(default_factory=list)
    schemas: list[tuple[str, ...]] = field(default_factory=list)
    sealed_rows: int = 0
    bytes: int = 0
    journals: list[pa.Table] = field(default_factory=list)
    journal_rows: int = 0
    only_ip: bool = False

    def release(self) -> None:
        """Forget the rows of the journals, once DuckDB has them."""
        self.journals = []

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
    """

    path: Path
    name: str
    manifest: Manifest | None
    running: bool
    tables: dict[str, StoredTable] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete_from: int | None = None
    bundle: Path | None = None

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


def load(path: Path, name: str, unpack_to: Path | None = None) -> Source:
    """Read the recording in `path`: manifest, footers of sealed files, whole journals.

    Args:
        path: its folder, or a bundle.
        name: what it is called.
        unpack_to: an empty folder, for a bundle.

    Raises:
        RecordingError: `path` is no recording, or nothing of it can be read.
    """
    if unpack_to is not None and is_bundle(path):
        from .bundle.read import read

        read(path, unpack_to)
        source = load(unpack_to, name)
        source.bundle = path
        return source
    if not path.is_dir():
        what = "is neither a recording's folder nor a bundle" if path.exists() else "does not exist"
        raise RecordingError(f"{path} {what}")
    problems: list[Problem] = []
    manifest: Manifest | None = None
    reason = ""
    try:
        manifest = Manifest.read(path)
    except FormatError as exc:
        reason = str(exc)
    source = Source(path, name, manifest, being_recorded(path), problems=problems)
    for table in _table_names(path, manifest):
        declared = manifest.tables.get(table) if manifest else None
        stored = _load_table(path, table, declared, problems, source.running)
        if stored is not None:
            source.tables[table] = stored
    if manifest is None:
        if not source.tables:
            raise RecordingError(reason)
        problems.insert(0, Problem(path, f"{reason}; its tables are read without it"))
    return source


def _table_names(path: Path, manifest: Manifest | None) -> list[str]:
    declared = list(manifest.tables) if manifest else []
    try:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as exc:
        raise RecordingError(f"{path} cannot be read: {exc.strerror}") from exc
    return declared + [f for f in folders if f not in declared and segments(path, f)]


def _load_table(
    path: Path, name: str, declared: Table | None, problems: list[Problem], running: bool
) -> StoredTable | None:
    for _ in range(_ATTEMPTS):
        found: list[Problem] = []
        try:
            stored = _read_segments(segments(path, name), name, declared, found, running)
        except FileNotFoundError:
            continue  # sealed or removed since it was listed
        problems.extend(found)
        return stored
    problems.append(Problem(path / name, "changes faster than it can be read; try again"))
    return StoredTable(declared) if declared is not None else None


def _read_segments(
    files: list[SegmentFile],
    name: str,
    declared: Table | None,
    problems: list[Problem],
    running: bool,
) -> StoredTable | None:
    table = declared
    stored: list[tuple[Path, pq.FileMetaData]] = []
    journals: list[pa.Table] = []
    size = 0
    for file in files:
        try:
            size += file.path.stat().st_size
            if file.sealed:
                footer = pq.read_metadata(file.path)
                table = table or _declaration(footer)
                stored.append((file.path, footer))
            else:
                reader = JournalReader(file.path)
                journals.append(reader.read())
                table = table or reader.table
                # The end of a journal that is being written is often half a frame.
                if reader.damage and not running:
                    problems.append(
                        Problem(file.path, f"{reader.damage}; all whole frames are read")
                    )
        except FileNotFoundError:
            raise
        except (FormatError, pa.ArrowException, OSError, ValueError) as exc:
            problems.append(
                Problem(file.path, f"not readable, left out ({_short(exc, file.path)})")
            )
    table = table or TABLES.get(name)
    if table is None:
        if stored:
            problems.append(Problem(stored[0][0].parent, "has no declaration, left out"))
        return None
    return StoredTable(
        table,
        [path for path, _ in stored],
        [tuple(footer.schema.to_arrow_schema().names) for _, footer in stored],
        sum(int(footer.num_rows) for _, footer in stored),
        size,
        journals,
        sum(int(part.num_rows) for part in journals),
        all(_only_ip(footer) for _, footer in stored)
        and not any(part[_IP].null_count for part in journals if _IP in part.column_names),
    )


def _only_ip(footer: pq.FileMetaData) -> bool:
    names = footer.schema.names
    if _IP not in names:
        return False
    place = names.index(_IP)
    found = [footer.row_group(n).column(place).statistics for n in range(footer.num_row_groups)]
    return all(f is not None and f.has_null_count and f.null_count == 0 for f in found)


def _declaration(footer: pq.FileMetaData) -> Table | None:
    text = (footer.metadata or {}).get(TABLE_KEY)
    return Table.from_json(json.loads(text)) if text else None


def _short(exc: Exception, path: Path) -> str:
    """Return the first sentence of an error, without the path that is said already."""
    text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return text.replace(f"{path}: ", "").replace(f"{path}", "the file").split(". ")[0].rstrip(".")
