"""`Recording`: one or several opened recordings, and the questions they answer."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import duckdb
import pyarrow as pa

from . import causes, damaged, times
from .bundle.container import is_bundle
from .causes import Correlation
from .dataset.opening import dataset_store
from .dataset.origin import Dataset, open_dataset
from .diagnosis import Diagnosis, diagnose, load_rules
from .engine import connect
from .engine import name as quoted
from .errors import DroptapeError, QueryError, RecordingError
from .export import MAX_EVENTS, Export, ExportFormat, export
from .find import find, short_names
from .info import Info, describe
from .marks import marks_of
from .origin import Folders, Origin
from .output import destination
from .source import Problem, Source, load
from .statements import checked, explained
from .summary import Summary, summarize
from .symbolize import symbolize
from .timeline import timeline
from .times import Mark, Window
from .top import top
from .verify import Verification, verify

if TYPE_CHECKING:
    from .spark.engine import Spark

Params = Sequence[Any] | Mapping[str, Any]


EngineName = Literal["duckdb", "spark"]


class _Settings(TypedDict):
    memory_limit: str | None
    threads: int | None
    temp_folder: str | os.PathLike[str] | None
    engine: EngineName
    master: str | None


When = str | int | None
"""A time as users write it (`Recording.between`), ns since 1970 (UTC), or None for no bound."""


class Recording:
    """One or several recordings as one set of DuckDB views.

    Every table of the recordings is an attribute that gives a DuckDB relation (``rec.drops.df()``,
    ``.to_arrow_table()``, ``.pl()``). Use it as a context manager, or call `close`.

    Attributes:
        origin: where it all comes from: folders, or a dataset.
        sources: what was found on disk, one for each recording.
        views: the tables and their columns, by name.
        problems: files that could not be read, and why.
        window: the span of time that is asked, None for all.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_folder: str | os.PathLike[str] | None = None,
        window: Window | None = None,
        engine: EngineName = "duckdb",
        master: str | None = None,
    ) -> None:
        self.origin = origin
        self.sources = origin.sources
        self.window = window
        self.problems = origin.problems
        self._settings: _Settings = {
            "memory_limit": memory_limit, "threads": threads, "temp_folder": temp_folder,
            "engine": engine, "master": master,
        }  # fmt: skip
        self._parts: dict[Window, Recording] = {}
        self._spark: Spark | None = None
        self._kept = contextlib.ExitStack()
        self._temp = tempfile.TemporaryDirectory(prefix="droptape-", dir=temp_folder)
        try:
            try:
                self._connect()
            except duckdb.Error:
                left_out = origin.leave_out()
                if not left_out:
                    raise
                self.problems += left_out
                self._connect()
            if engine == "spark":
                self._spark = _on_spark(origin, window, self._connection, master)
        except duckdb.Error as exc:
            self._temp.cleanup()
            raise explained(exc) from exc
        except DroptapeError:
            self._temp.cleanup()
            raise

    def _connect(self) -> None:
        self._connection = connect(
            self.origin.files(), Path(self._temp.name),
            memory_limit=self._settings["memory_limit"], threads=self._settings["threads"],
        )  # fmt: skip
        self.views = self.origin.create(self._connection, self.window)

    # --- asking -------------------------------------------------------------------------------

    def sql(self, query: str, params: Params | None = None) -> duckdb.DuckDBPyRelation:
        """Ask in SQL.

        Args:
            query: one SELECT (also WITH, FROM, PIVOT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN).
            params: values for ``?`` (a sequence) or ``$name`` (a mapping).

        Returns:
            A relation, evaluated when its rows are fetched.

        Raises:
            QueryError: the query is not one reading statement, or names what does not exist.
        """
        try:
            text = checked(self._connection, query)
            if self._spark is not None:
                if params:
                    raise QueryError("Spark takes no parameters here: write the values")
                return self._connection.from_arrow(self._spark.query(text))
            return self._connection.sql(text, params=params)
        except duckdb.Error as exc:
            raise self.explain(exc) from exc

    def ask(self, query: str, params: Params | None = None) -> duckdb.DuckDBPyRelation:
        """Run SQL of this package, which is not checked, on the engine that was asked for."""
        if self._spark is None:
            return self._connection.sql(query, params=params)
        assert params is None or isinstance(params, Mapping)
        return self._connection.from_arrow(self._spark.ask(query, params))

    def make(self, statement: str) -> None:
        """Run a CREATE TEMP TABLE of this package."""
        if self._spark is None:
            self._connection.execute(statement)
        else:
            self._spark.execute(statement)

    @contextlib.contextmanager
    def holding(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Let SQL of this package read `rows` under a name as long as the ``with`` lasts."""
        with contextlib.ExitStack() as held:
            self._connection.register(name, rows)
            held.callback(self._connection.unregister, name)
            if self._spark is not None:
                held.enter_context(self._spark.holding(name, rows))
            yield

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Return the table called `name`; QueryError when no opened recording has it."""
        if name not in self.views:
            raise QueryError(f"there is no table {name}; tables: {', '.join(self.tables)}")
        return self._connection.sql(f"FROM {quoted(name)}")

    def __getattr__(self, name: str) -> duckdb.DuckDBPyRelation:
        if name.startswith("_") or name == "views" or name not in self.views:
            raise AttributeError(name)
        return self.table(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.views]

    def info(self) -> Info:
        """Say what was recorded, where, when, and how complete it is."""
        return describe(self)

    def summary(self, *, start: When = None, end: When = None) -> Summary:
        """Return the answer in one screen: what happened, why, to whom, since when, losses.

        Args:
            start: only from this time on, as in `between`.
            end: only before this time.
        """
        return summarize(self.between(start, end))

    def marked(self) -> list[Mark]:
        """Return what users wrote into the recordings while they were made, oldest first."""
        return marks_of(self)

    def between(self, start: When = None, end: When = None) -> Recording:
        """Return the part of the recordings in a span of time.

        Args:
            start: from this time on: ns since 1970 (UTC), or text: UTC (``2026-11-21T07:53:48Z``,
                ``07:53:48``), an offset from the start (``+30s``) or back from the end (``-10s``),
                or a mark (``mark:deploy``, ``mark:deploy+5s``). None for the start.
            end: before this time; None for the end.

        Returns:
            A recording that is closed with this one; this one itself when both are None. Totals
            and losses are per second, and right to half a second at the ends of the span.

        Raises:
            QueryError: one is no time, or the second is not after the first.
        """
        window = times.window(start, end, self.origin.landmarks())
        if window is None:
            return self
        if window not in self._parts:
            again = self.origin.again(window)
            self._parts[window] = Recording(again, window=window, **self._settings)
        return self._parts[window]

    def part(self, source: Source) -> Recording:
        """Return what is cheapest to ask about one of `sources`; close it unless it is this one."""
        origin = self.origin.part(source) if self._spark is None else None
        if origin is None:
            return self
        return Recording(origin, window=self.window, **self._settings)

    def top(
        self,
        by: str | Sequence[str] = ("reason", "function"),
        *,
        table: str | None = None,
        limit: int = 20,
        include_benign: bool = False,
        start: When = None,
        end: When = None,
    ) -> duckdb.DuckDBPyRelation:
        """Count events by the values of columns, most frequent first.

        Args:
            by: columns; also ``owner``, ``port``, ``reason`` (the cause of any kind).
            table: one table instead of all event tables.
            limit: rows at most.
            include_benign: also count events that are part of normal operation.
            start: only from this time on, as in `between`.
            end: only before this time.

        Returns:
            A relation: the columns of `by`, events, share (percent), rows, since, until.

        Raises:
            QueryError: a column or table does not exist.
        """
        part = self.between(start, end)
        return top(part, by, table=table, limit=limit, include_benign=include_benign)

    def timeline(
        self,
        *,
        bucket: str = "auto",
        by: str | None = None,
        table: str | None = None,
        include_benign: bool = False,
        beside: str | None = None,
        start: When = None,
        end: When = None,
    ) -> duckdb.DuckDBPyRelation:
        """Count events over time.

        Args:
            bucket: such as ``100ms``, ``1s``, ``5m``; ``auto`` gives about 60 buckets.
            by: the column to split by; the kind of event, or the cause for one table, when None.
            table: one table instead of all event tables.
            include_benign: also count events that are part of normal operation.
            beside: name of an imported table, whose requests and latencies are shown as well.
            start: only from this time on, as in `between`.
            end: only before this time.

        Returns:
            A relation: start (UTC), offset (seconds since the first recording began), the column
            of `by`, events. Buckets without events have no row. With `beside` also failed and the
            latencies p50_ms, p90_ms, p99_ms, max_ms, in rows where the column of `by` is `beside`
            and events are requests.

        Raises:
            QueryError: a column or table does not exist, or `bucket` is not a duration.
        """
        return timeline(
            self.between(start, end), bucket=bucket, by=by, table=table,
            include_benign=include_benign, beside=beside,
        )  # fmt: skip

    def correlate(self, *, start: When = None, end: When = None) -> Correlation:
        """Link retransmits with the drops of their flows, or say that none was seen.

        The view ``retransmit_causes`` has a row for each retransmit.

        Args:
            start: only from this time on, as in `between`.
            end: only before this time.

        Raises:
            QueryError: no retransmits were recorded.
        """
        return causes.correlate(self.between(start, end))

    def symbolize(self, addresses: Iterable[int] = ()) -> duckdb.DuckDBPyRelation:
        """Name kernel code: the addresses that occur, or `addresses` (unsigned).

        Returns:
            A relation: recording, location (hexadecimal), function, offset (bytes), module, events.
        """
        return symbolize(self, addresses)

    def diagnose(
        self,
        rules: Iterable[str | os.PathLike[str]] = (),
        *,
        start: When = None,
        end: When = None,
    ) -> Diagnosis:
        """Say what is wrong: findings with evidence, meaning, remedy and proof.

        Args:
            rules: folders with rules of your own (docs/DIAGNOSE.md), beside those of droptape.
            start: only from this time on, as in `between`.
            end: only before this time.

        Raises:
            RuleError: a rule is not well formed.
        """
        part = self.between(start, end)
        return diagnose(part, load_rules(Path(folder) for folder in rules))

    def verify(self) -> Verification:
        """Check the files against their checksums, and the events against the kernel's counters.

        Reads everything, so it takes a while for large recordings.
        """
        return verify(self)

    def report(self, path: str | os.PathLike[str], *, start: When = None, end: When = None) -> Path:
        """Write one HTML page for people, which needs nothing else.

        Args:
            path: the file; it appears whole or not at all.
            start: only from this time on, as in `between`.
            end: only before this time.

        Returns:
            The path.

        Raises:
            QueryError: the file cannot be written, or the extra `report` is not installed.
        """
        from .report.page import page  # Altair takes a second to import

        text = page(self.between(start, end))
        with destination(Path(path)) as file:
            file.write(text)
        return Path(path)

    def export(
        self,
        to: ExportFormat | str,
        output: str | os.PathLike[str] | None = None,
        *,
        max_events: int = MAX_EVENTS,
        start: When = None,
        end: When = None,
    ) -> Export:
        """Write the recordings for another tool.

        Args:
            to: ``perfetto``: a timeline (trace event format, JSON) for ui.perfetto.dev;
                ``openmetrics``: counters with timestamps, to fill a Prometheus afterwards.
            output: the file, written whole or not at all; standard output when None.
            max_events: events of a timeline at most, about; when there are more, every n-th of
                each cause is taken. Counts are exact in any case.
            start: only from this time on, as in `between`.
            end: only before this time.

        Returns:
            How much was written, and of how many events one.

        Raises:
            QueryError: there is no such format, or the file cannot be written.
        """
        return export(self.between(start, end), to, output, max_events)

    def bundle(
        self,
        path: str | os.PathLike[str],
        *,
        start: When = None,
        end: When = None,
        max_size: int = 10_000_000,
        redact: bool = False,
        key: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Write the recording, or a part of it, to one file, with its report.

        `open_recording` takes the file as it takes a folder.

        Args:
            path: the file; it appears whole or not at all.
            start: only from this time on, as in `between`; widened to a whole second.
            end: only before this time.
            max_size: bytes; events are thinned and their weights raised until it fits. Sums of
                weights, totals, losses, counters and settings stay exact.
            redact: replace addresses and names, leave out command lines.
            key: file with the key of the replacements; made when it does not exist. With None the
                key is random and kept nowhere.

        Returns:
            The path.

        Raises:
            QueryError: it cannot be made that small, or the file cannot be written.
            RecordingError: there is more than one recording, or it has no manifest.
        """
        from .bundle.make import make

        if not isinstance(self.origin, Folders):
            raise RecordingError("a bundle is made of a recording, not of a dataset")
        make(
            self, Path(path), start=start, end=end, max_size=max_size, redact=redact,
            key=None if key is None else Path(key), reopen=open_recording,
        )  # fmt: skip
        return Path(path)

    # --- what it holds ------------------------------------------------------------------------

    @property
    def tables(self) -> list[str]:
        """The names of the tables."""
        return list(self.views)

    @property
    def event_tables(self) -> list[str]:
        """The names of the tables of events."""
        return [
            n for n, v in self.views.items() if v.table is not None and v.table.role == "events"
        ]

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for notebooks.

        It can read no file but the recording's. Statements given to it are not checked as those
        of `sql` are: a COPY could overwrite the recording.
        """
        return self._connection

    def explain(self, exc: Exception) -> QueryError:
        """Make one readable line from an error that fetching a relation raised."""
        if damaged.may_be_damage(exc):
            for problem in damaged.found(self.sources):
                return QueryError(
                    f"{problem.path} is damaged: `droptape verify` has all such files"
                )
        return explained(exc, tables=tuple(self.tables))

    def keep(self, needed: contextlib.ExitStack) -> None:
        """Close `needed` with this recording, and not before."""
        self._kept = needed

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        for part in self._parts.values():
            part.close()
        self._connection.close()
        self._temp.cleanup()
        self._kept.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording {', '.join(source.name for source in self.sources)}>"


def open_recording(
    *paths: str | os.PathLike[str],
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_folder: str | os.PathLike[str] | None = None,
    start: When = None,
    end: When = None,
    hosts: Sequence[str] = (),
    engine: EngineName = "duckdb",
    master: str | None = None,
) -> Recording:
    """Open recordings for asking.

    Args:
        paths: folders of recordings, bundles, or globs of them; or one dataset (`archive`).
        memory_limit: what queries may use before they spill to disk, such as ``2GB``; half of the
            memory when None.
        threads: processors to use; all when None.
        temp_folder: where a private folder for spilled data is made; the system's when None.
        start: only from this time on, as in `Recording.between`.
        end: only before this time.
        hosts: of a dataset, only these: names or globs.
        engine: what runs the queries; ``spark`` takes a dataset, and does not do all of it.
        master: of the Spark cluster, such as ``spark://host:7077``; SPARK_MASTER or this machine
            when None.

    Returns:
        A recording whose `problems` name the files that could not be read.

    Raises:
        RecordingError: a path is no recording, or nothing can be read.
        QueryError: `start` or `end` is no time.
    """
    settings: _Settings = {
        "memory_limit": memory_limit, "threads": threads, "temp_folder": temp_folder,
        "engine": engine, "master": master,
    }  # fmt: skip
    store = dataset_store(paths)
    if store is not None:
        dataset, window = open_dataset(store, hosts, start, end)
        return Recording(dataset, window=window, **settings)
    if hosts:
        raise QueryError("hosts are of a dataset: droptape archive makes one")
    found = find(paths)
    with contextlib.ExitStack() as stack:
        unpacked: Path | None = None
        if any(map(is_bundle, found)):
            folder = tempfile.TemporaryDirectory(prefix="droptape-bundle-", dir=temp_folder)
            unpacked = Path(stack.enter_context(folder))
        sources, problems = _load_all(found, unpacked)
        origin = Folders(sources, problems)
        window = times.window(start, end, origin.landmarks())
        recording = Recording(origin, window=window, **settings)
        recording.keep(stack.pop_all())
        return recording


def _on_spark(
    origin: Origin, window: Window | None, connection: duckdb.DuckDBPyConnection, master: str | None
) -> Spark:
    if not isinstance(origin, Dataset):
        raise QueryError("Spark is asked about a dataset: droptape archive makes one")
    try:
        from .spark.engine import Spark
    except ImportError as exc:
        raise QueryError(f"{exc.name} is not installed: pip install 'droptape[fleet]'") from exc
    return Spark(origin, window, connection, master)


def _load_all(found: list[Path], unpacked: Path | None) -> tuple[list[Source], list[Problem]]:
    sources: list[Source] = []
    problems: list[Problem] = []
    for number, (path, name) in enumerate(zip(found, short_names(found), strict=True)):
        try:
            sources.append(load(path, name, unpacked / str(number) if unpacked else None))
        except RecordingError as exc:
            if len(found) == 1:
                raise
            problems.append(Problem(path, re.sub(rf"^{re.escape(str(path))}:? ", "", str(exc))))
    if not sources:
        raise RecordingError(f"nothing can be read: {problems[0]}")
    return sources, problems
