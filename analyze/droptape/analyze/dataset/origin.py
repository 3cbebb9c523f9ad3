"""A dataset as something to ask."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from droptape.analyze import times
from droptape.analyze.engine import literal, name, sql_list
from droptape.analyze.errors import QueryError, RecordingError, refusal
from droptape.analyze.marks import MOST
from droptape.analyze.source import Problem, Source, StoredTable
from droptape.analyze.times import Landmarks, Mark, Window
from droptape.analyze.verify.files import pages
from droptape.analyze.views import View
from droptape.analyze.window import HALF_SECOND, is_state, is_timed
from droptape.format.rollup import Slots
from droptape.format.tables import MARKS

from . import clocks
from .catalog import Entry, StoredFile, read_catalog
from .columns import ARROW
from .layout import RECORDINGS
from .store import FolderStore, Store
from .views import ADDRESS, PARTITIONS, create

_MARGIN_NS = 2 * HALF_SECOND


class Dataset:
    """The recordings of a dataset that were asked for.

    Attributes:
        store: where it lies.
        entries: the recordings.
        present: paths of the files to read.
        sources: the recordings as `Recording` knows them.
        problems: what was left out, and clocks that disagree.
        address: the SQL type of addresses in the views of ``raw``.
        rollups: none; its files have none.
    """

    address = ADDRESS
    rollups: Mapping[str, Collection[Slots]] = MappingProxyType({})

    def __init__(
        self,
        store: Store,
        entries: Sequence[Entry],
        problems: Iterable[Problem],
        window: Window | None = None,
    ) -> None:
        self.store = store
        self._all = list(entries)
        self._given = list(problems)
        self._marks: list[Mark] | None = None
        self._window = window
        self.entries = [entry for entry in self._all if _overlaps(entry.span_ns, window)]
        if not self.entries:
            why = "was recorded in that span of time" if window else "in it can be read"
            first = f": {self._given[0]}" if self._given and not window else ""
            raise RecordingError(f"{store.place}: nothing {why}{first}")
        found, missing = _checked(store, self.entries)
        self.present = {
            file.path
            for entry in self.entries
            for file in entry.files
            if file.path in found and _wanted(entry, file, window)
        }
        self._left_out = [
            Problem(Path(e.recording), text) for e in self.entries for text in e.left_out
        ]
        unequal = clocks.disagreements(self.entries)
        clock = [Problem(Path(e.recording), text) for e, text in unequal]
        self.problems = [*self._given, *missing, *self._left_out, *clock]
        self.sources = [_source(entry, found) for entry in self.entries]

    def files(self) -> Iterable[str]:
        """See `Origin.files`; what is remote is read by Arrow."""
        if isinstance(self.store, FolderStore):
            return (self.store.full(path) for path in sorted(self.present))
        return ()

    def create(
        self, connection: duckdb.DuckDBPyConnection, window: Window | None
    ) -> dict[str, View]:
        """See `Origin.create`."""
        # What a recording has to do, a dataset has done: addresses are text already.
        connection.execute("CREATE MACRO addr_text(addr) AS addr")
        connection.execute("CREATE MACRO addr(txt) AS txt")
        for schema in ("raw", "stored"):
            connection.execute(f"CREATE SCHEMA {schema}")
        return create(_DuckDB(connection, self.store), self.entries, window, self.present)

    def again(self, window: Window | None) -> Dataset:
        """See `Origin.again`."""
        return Dataset(self.store, self._all, self._given, window)

    def part(self, source: Source) -> Dataset:
        """Return one recording, so that nothing of the others is looked at."""
        one = [entry for entry in self.entries if entry.recording == source.name]
        return Dataset(self.store, one, (), self._window)

    def only(self, source: Source) -> str:
        """See `Origin.only`: the host is a folder, so that nothing else is looked at."""
        host = next(entry.host for entry in self.entries if entry.recording == source.name)
        return f"host = {literal(host)} AND recording = {literal(source.name)}"

    def landmarks(self) -> Landmarks:
        """See `Origin.landmarks`."""
        started = [entry.manifest.started_ns for entry in self.entries]
        return Landmarks(min(started), max(e.span_ns[1] for e in self.entries), self.marks())

    def marks(self) -> Sequence[Mark]:
        """See `Origin.marks`; they are read once."""
        if self._marks is None:
            self._marks = sorted(self._read_marks())
        return self._marks

    def _read_marks(self) -> list[Mark]:
        found: list[Mark] = []
        for entry in self.entries:
            for file in entry.files:
                if file.table == MARKS.name and file.path in self.present and len(found) < MOST:
                    fs, path = self.store.arrow(file.path)
                    try:
                        rows = pq.read_table(path, filesystem=fs, partitioning=None).to_pylist()
                    except (pa.ArrowException, OSError):
                        continue
                    found += [
                        Mark(row["ts_ns"], row["text"] or "", row["source"] or "", entry.recording)
                        for row in rows
                    ]
        return found

    def ranges(
        self, connection: duckdb.DuckDBPyConnection
    ) -> dict[str, dict[str, tuple[int, int]]]:
        """See `Origin.ranges`: the catalog has them."""
        del connection
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for entry in self.entries:
            of = found.setdefault(entry.recording, {})
            for file in entry.files:
                if file.first_ns is not None and file.last_ns is not None:
                    first, last = of.get(file.table, (file.first_ns, file.last_ns))
                    of[file.table] = (min(first, file.first_ns), max(last, file.last_ns))
        return found

    def unread(self) -> list[Problem]:
        """See `Origin.unread`: entries that cannot be read, and rows that have none.

        And what was left out: the files of the dataset may be whole then, but they
        are not all of the recording.
        """
        known = {Path(path).stem for path in self.store.sizes(RECORDINGS)}
        tables = {file.table for entry in self._all for file in entry.files}
        rows = sorted(path for table in tables for path in self.store.sizes(table))
        orphans = {Path(path).stem.rpartition("-")[0]: path for path in reversed(rows)}
        return [
            *self._given,
            *self._left_out,
            *(
                Problem(Path(path), f"belongs to {recording}, which has no entry in {RECORDINGS}")
                for recording, path in sorted(orphans.items())
                if recording not in known
            ),
        ]

    def damage(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """See `Origin.damage`."""
        for file in self._files_of(source):
            fs, path = self.store.arrow(file.path)
            try:
                with fs.open_input_file(path) as opened:
                    found = "changed" if opened.size() != file.bytes else ""
                    detail = pages(opened)
            except FileNotFoundError:
                found, detail = "missing", ""
            except OSError as exc:
                found, detail = "barred", refusal(exc) or str(exc)
            if found or detail:
                yield file.path, found or "unreadable", detail

    def reread(self) -> bool:
        """See `Origin.reread`: nothing of a dataset goes while it is asked."""
        return False

    def leave_out(self) -> list[Problem]:
        """See `Origin.leave_out`."""
        bad = {
            file: detail or found
            for source in self.sources
            for file, found, detail in self.damage(source)
            if file in self.present
        }
        self.present -= set(bad)
        return [Problem(Path(f), f"not readable, left out ({why})") for f, why in bad.items()]

    def checked(self, source: Source) -> int:
        """See `Origin.checked`."""
        return len(self._files_of(source))

    def _files_of(self, source: Source) -> list[StoredFile]:
        return [f for e in self.entries if e.recording == source.name for f in e.files]

    def located(self) -> list[str]:
        """See `Origin.located`."""
        return ['SELECT recording, location, function, "offset", module FROM raw.locations']


class _DuckDB:
    """Views in a DuckDB connection, over files or over what Arrow reads from afar."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store) -> None:
        self._connection = connection
        self._store = store

    def scan(self, scanned: str, files: list[str], columns: list[tuple[str, str]]) -> None:
        if isinstance(self._store, FolderStore):
            paths = sql_list(self._store.full(path) for path in files)
            types = ", ".join(f"{literal(p)}: VARCHAR" for p in PARTITIONS)
            rows = f"read_parquet({paths}, hive_partitioning = true, hive_types = {{{types}}})"
        else:
            rows = name(f"remote_{scanned}")
            self._connection.register(f"remote_{scanned}", self._remote(files, columns))
        self._connection.execute(f"CREATE VIEW stored.{name(scanned)} AS SELECT * FROM {rows}")

    def execute(self, query: str) -> object:
        return self._connection.execute(query)

    def _remote(self, files: list[str], columns: list[tuple[str, str]]) -> pads.Dataset:
        fs, _ = self._store.arrow("")
        hive = pads.partitioning(pa.schema([(p, pa.string()) for p in PARTITIONS]), flavor="hive")
        stored = [pa.field(column, ARROW[kind]) for column, kind in columns]
        schema = pa.schema([*stored, *((p, pa.string()) for p in PARTITIONS)])
        paths = [self._store.arrow(path)[1] for path in files]
        return pads.dataset(
            paths, schema=schema, format="parquet", filesystem=fs, partitioning=hive
        )


def open_dataset(
    store: Store, hosts: Sequence[str], start: str | int | None, end: str | int | None
) -> tuple[Dataset, Window | None]:
    """Open what `hosts` recorded between two times, and say which span that is.

    Raises:
        RecordingError: it is no dataset, cannot be reached, or nothing was recorded then.
        QueryError: a time is none.
    """
    catalog = read_catalog(store, hosts, _absolute(end))
    problems = [Problem(Path(path), f"{why}; left out") for path, why in catalog.problems]
    whole = Dataset(store, catalog.entries, problems)
    if start is None and end is None:
        return whole, None  # no landmarks, which would be a file to read for each host with marks
    window = times.window(start, end, whole.landmarks())
    return (whole, None) if window is None else (whole.again(window), window)


def _absolute(text: str | int | None) -> int | None:
    """Return an instant that needs no recording to be known: the catalog is pruned by it."""
    try:
        return None if text is None else times.instant(text, Landmarks(None, None))
    except QueryError:
        return None


def _overlaps(span: tuple[int, int], window: Window | None) -> bool:
    if window is None:
        return True
    late = window.end is not None and span[0] >= window.end + _MARGIN_NS
    early = window.start is not None and span[1] < window.start - _MARGIN_NS
    return not late and not early


def _wanted(entry: Entry, file: StoredFile, window: Window | None) -> bool:
    """Say whether a file can have rows of `window`, or what was true at its start."""
    table = entry.tables[file.table].table
    if file.first_ns is None or file.last_ns is None or not is_timed(table):
        return True
    first = file.first_ns if not is_state(table) else entry.span_ns[0]
    last = file.last_ns if not is_state(table) else max(file.last_ns, entry.span_ns[1])
    return _overlaps((first, last), window)


def _checked(store: Store, entries: Iterable[Entry]) -> tuple[set[str], list[Problem]]:
    """Return the files that are there, and those that are not as the catalog says."""
    listed = [file for entry in entries for file in entry.files]
    folders = sorted({file.table for file in listed})
    sizes: dict[str, int] = {}
    for folder in folders:
        sizes |= store.sizes(folder)
    problems = [
        Problem(Path(file.path), "is missing; left out")
        if file.path not in sizes
        else Problem(Path(file.path), "is not as it was written; left out")
        for file in listed
        if sizes.get(file.path) != file.bytes
    ]
    return {file.path for file in listed if sizes.get(file.path) == file.bytes}, problems


def _source(entry: Entry, found: set[str]) -> Source:
    tables = {}
    for table, stored in entry.tables.items():
        files = [f for f in entry.files if f.table == table and f.path in found]
        names = tuple(n for n, _ in stored.columns)
        tables[table] = StoredTable(
            stored.table, [Path(f.path) for f in files], [names] * len(files),
            sum(f.rows for f in files), sum(f.bytes for f in files),
        )  # fmt: skip
    return Source(Path(entry.path), entry.recording, entry.manifest, running=False, tables=tables)
