"""`Recording`: one or several opened recordings, and the questions they answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import duckdb

from . import causes, times
from .causes import Correlation
from .database import Database, Params, Settings
from .diagnosis import Diagnosis, diagnose, load_rules
from .engine import name as quoted
from .errors import QueryError, RecordingError
from .export import MAX_EVENTS, Export, ExportFormat, export
from .info import Info, describe
from .marks import marks_of
from .origin import Folders, Origin
from .source import load
from .summary import Summary, summarize
from .symbolize import symbolize
from .targets import check, destination, refuse_source
from .timeline import timeline
from .times import Mark, Window
from .top import top
from .verify import Verification, verify

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
        settings: what queries run on.
        database: what runs them, for this package.
        held: what is closed with this, and not before.
    """

    def __init__(
        self,
        origin: Origin,
        window: Window | None = None,
        settings: Settings | None = None,
        held: contextlib.ExitStack | None = None,
    ) -> None:
        self.origin = origin
        self.sources = origin.sources
        self.window = window
        self.settings = settings or Settings()
        self._parts: dict[Window, Recording] = {}
        self._held = held
        self.database = Database(origin, window, self.settings)
        self.views = self.database.views
        self.problems = origin.problems
        self.problems += self.database.left_out

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
        return self.database.user_sql(query, params)

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Return the table called `name`; QueryError when no opened recording has it."""
        if name not in self.views:
            raise QueryError(f"there is no table {name}; tables: {', '.join(self.tables)}")
        return self.connection.sql(f"FROM {quoted(name)}")

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
            self._parts[window] = Recording(again, window, self.settings)
        return self._parts[window]

    def top(
        self,
        by: str | Sequence[str] | None = None,
        *,
        table: str | None = None,
        limit: int = 20,
        include_benign: bool = False,
        start: When = None,
        end: When = None,
    ) -> duckdb.DuckDBPyRelation:
        """Count events by the values of columns, most frequent first.

        Args:
            by: columns; also ``owner``, ``port``, ``reason`` (any cause); None: cause, function.
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

        check(Path(path), [source.bundle for source in self.sources])
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
        refuse_source(output, [source.bundle for source in self.sources])
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
            key=None if key is None else Path(key), reopen=_reopened,
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
        return self.database.connection

    def explain(self, exc: Exception) -> QueryError:
        """Make one readable line from an error that fetching a relation raised."""
        return self.database.explain(exc)

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        for part in self._parts.values():
            part.close()
        self.database.close()
        if self._held is not None:
            self._held.close()

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


def _reopened(folder: Path) -> Recording:
    return Recording(Folders([load(folder, folder.name)]))
