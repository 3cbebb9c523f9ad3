"""`Recording`: one or several opened recordings, and the questions they answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from . import engine, events, views
from .errors import QueryError, RecordingError
from .find import find, short_names
from .info import Info, describe
from .source import Problem, Source, load
from .statements import checked, explained
from .summary import Summary, summarize
from .symbolize import symbolize
from .timeline import timeline
from .top import top
from .verify import Verification, verify

Params = Sequence[Any] | Mapping[str, Any]


class Recording:
    """One or several recordings as one set of DuckDB views.

    Every table of the recordings is an attribute that gives a DuckDB relation (``rec.drops.df()``,
    ``.to_arrow_table()``, ``.pl()``). Use it as a context manager, or call `close`.

    Attributes:
        sources: what was found on disk, one for each recording.
        views: the tables and their columns, by name.
        problems: files that could not be read, and why.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        problems: Iterable[Problem] = (),
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.sources = list(sources)
        self.problems = [*problems, *(p for source in self.sources for p in source.problems)]
        self._temp = tempfile.TemporaryDirectory(prefix="droptape-", dir=temp_folder)
        try:
            self._connection = engine.connect(
                (f for s in self.sources for t in s.tables.values() for f in t.sealed),
                Path(self._temp.name),
                memory_limit=memory_limit,
                threads=threads,
            )
            self.views = views.create(self._connection, self.sources)
            self.views[events.NAME] = events.create(self._connection, self.views)
        except duckdb.Error as exc:
            self._temp.cleanup()
            raise explained(exc) from exc
        for source in self.sources:
            for stored in source.tables.values():
                stored.release()

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
            return self._connection.sql(checked(self._connection, query), params=params)
        except duckdb.Error as exc:
            raise self.explain(exc) from exc

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Return the table called `name`; QueryError when no opened recording has it."""
        if name not in self.views:
            raise QueryError(f"there is no table {name}; tables: {', '.join(self.tables)}")
        return self._connection.sql(f"FROM {engine.name(name)}")

    def __getattr__(self, name: str) -> duckdb.DuckDBPyRelation:
        if name.startswith("_") or name == "views" or name not in self.views:
            raise AttributeError(name)
        return self.table(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.views]

    def info(self) -> Info:
        """Say what was recorded, where, when, and how complete it is."""
        return describe(self)

    def summary(self) -> Summary:
        """Return the answer in one screen: what happened, why, to whom, since when, losses."""
        return summarize(self)

    def top(
        self,
        by: str | Sequence[str] = ("reason", "function"),
        *,
        table: str | None = None,
        limit: int = 20,
        include_benign: bool = False,
    ) -> duckdb.DuckDBPyRelation:
        """Count events by the values of columns, most frequent first.

        Args:
            by: columns; also ``owner``, ``port``, ``reason`` (the cause of any kind).
            table: one table instead of all event tables.
            limit: rows at most.
            include_benign: also count events that are part of normal operation.

        Returns:
            A relation: the columns of `by`, events, share (percent), rows, since, until.

        Raises:
            QueryError: a column or table does not exist.
        """
        return top(self, by, table=table, limit=limit, include_benign=include_benign)

    def timeline(
        self,
        *,
        bucket: str = "auto",
        by: str | None = None,
        table: str | None = None,
        include_benign: bool = False,
    ) -> duckdb.DuckDBPyRelation:
        """Count events over time.

        Args:
            bucket: such as ``100ms``, ``1s``, ``5m``; ``auto`` gives about 60 buckets.
            by: the column to split by; the kind of event, or the cause for one table, when None.
            table: one table instead of all event tables.
            include_benign: also count events that are part of normal operation.

        Returns:
            A relation: start (UTC), offset (seconds since the first recording began), the column
            of `by`, events. Buckets without events have no row.

        Raises:
            QueryError: a column or table does not exist, or `bucket` is not a duration.
        """
        return timeline(self, bucket=bucket, by=by, table=table, include_benign=include_benign)

    def symbolize(self, addresses: Iterable[int] = ()) -> duckdb.DuckDBPyRelation:
        """Name kernel code: the addresses that occur, or `addresses` (unsigned).

        Returns:
            A relation: recording, location (hexadecimal), function, offset (bytes), module, events.
        """
        return symbolize(self, addresses)

    def verify(self) -> Verification:
        """Check the files against their checksums, and the events against the kernel's counters.

        Reads everything, so it takes a while for large recordings.
        """
        return verify(self)

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
        return explained(exc, tables=tuple(self.tables))

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        self._connection.close()
        self._temp.cleanup()

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
) -> Recording:
    """Open recordings for asking.

    Args:
        paths: folders of recordings, or globs of them.
        memory_limit: what queries may use before they spill to disk, such as ``2GB``; half of the
            memory when None.
        threads: processors to use; all when None.
        temp_folder: where a private folder for spilled data is made; the system's when None.

    Returns:
        A recording whose `problems` name the files that could not be read.

    Raises:
        RecordingError: a path is no recording, or nothing can be read.
    """
    found = find(paths)
    sources: list[Source] = []
    problems: list[Problem] = []
    for path, name in zip(found, short_names(found), strict=True):
        try:
            sources.append(load(path, name))
        except RecordingError as exc:
            if len(found) == 1:
                raise
            problems.append(Problem(path, str(exc).replace(f"{path} ", "")))
    if not sources:
        raise RecordingError(f"nothing can be read: {problems[0]}")
    return Recording(
        sources, problems, memory_limit=memory_limit, threads=threads, temp_folder=temp_folder
    )
