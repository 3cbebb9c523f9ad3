"""Where the views of a `Recording` come from: folders of recordings, or a dataset."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import duckdb

from droptape.format.rollup import Slots

from . import causes, damaged, events, marks, rollups, views
from .engine import literal
from .integrity import Allowance
from .source import Problem, Source, load
from .times import Landmarks, Mark, Window
from .verify import files
from .views import View


class Origin(Protocol):
    """What is asked.

    Attributes:
        sources: one for each recording.
        problems: what could not be read.
        address: the SQL type of addresses in the views of ``raw``.
        rollups: those that can be asked, and the slots that they have (rollups.py).
    """

    sources: list[Source]
    problems: list[Problem]
    address: str
    rollups: Mapping[str, Collection[Slots]]

    def files(self) -> Iterable[str]:
        """Return what DuckDB has to read."""

    def create(
        self, connection: duckdb.DuckDBPyConnection, window: Window | None
    ) -> dict[str, View]:
        """Create the views of the rows in `window`; return those that users see."""

    def again(self, window: Window | None) -> Origin:
        """Return what to ask for another span of time."""

    def part(self, source: Source) -> Origin | None:
        """Return one recording by itself where that is cheaper to ask, else None."""

    def only(self, source: Source) -> str:
        """Return the condition for the rows of one recording."""

    def landmarks(self) -> Landmarks:
        """Return what times can be relative to."""

    def marks(self) -> Sequence[Mark]:
        """Return what users wrote into the recordings, oldest first."""

    def ranges(
        self, connection: duckdb.DuckDBPyConnection
    ) -> dict[str, dict[str, tuple[int, int]]]:
        """Return for each recording and table the times of the first and the last row, ns."""

    def reread(self) -> bool:
        """Read again what lost files since it was opened; False when nothing did."""

    def leave_out(self) -> list[Problem]:
        """Leave out the files that cannot be read; return them."""

    def unread(self) -> list[Problem]:
        """Return what is damaged or missing, of all that was found on opening."""

    def damage(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """Yield the files of a recording that are not as they should be, as verify.files does."""

    def checked(self, source: Source) -> int:
        """Count the files that `damage` looks at."""

    def located(self) -> list[str] | None:
        """Return queries (recording, location, function, offset, module) of code that occurs.

        None where the symbols of the recordings are at hand.
        """


class Folders:
    """Recordings in folders of their own."""

    address = "BLOB"
    rollups: Mapping[str, Collection[Slots]] = MappingProxyType({})

    def __init__(self, sources: Iterable[Source], problems: Iterable[Problem] = ()) -> None:
        self.sources = list(sources)
        self._given = list(problems)
        self.problems = self._found()

    def _found(self) -> list[Problem]:
        return [*self._given, *(p for source in self.sources for p in source.problems)]

    def files(self) -> Iterable[str]:
        """See `Origin.files`."""
        return (str(f) for s in self.sources for t in s.tables.values() for f in t.sealed)

    def create(
        self, connection: duckdb.DuckDBPyConnection, window: Window | None
    ) -> dict[str, View]:
        """See `Origin.create`."""
        known = views.prepare(connection, self.sources)
        made = views.create(connection, self.sources, known, window)
        made[events.NAME] = events.create(connection.execute, made, self.address)
        self.rollups = rollups.create(connection, self.sources, known, made, window)
        explained_by = causes.create(connection.execute, made, self.address)
        if explained_by is not None:
            made[causes.NAME] = explained_by
        for source in self.sources:
            for stored in source.tables.values():
                stored.release()
        return made

    def again(self, window: Window | None) -> Folders:
        """Read the folders again, because the rows of journals are not kept."""
        del window
        allowance = Allowance()
        return Folders(load(s.path, s.name, allowance=allowance) for s in self.sources)

    def part(self, source: Source) -> None:
        """See `Origin.part`: all are open already."""
        del source

    def only(self, source: Source) -> str:
        """See `Origin.only`."""
        return f"recording = {literal(source.name)}"

    def landmarks(self) -> Landmarks:
        """See `Origin.landmarks`."""
        return marks.landmarks(self.sources)

    def marks(self) -> Sequence[Mark]:
        """See `Origin.marks`."""
        return marks.read_marks(self.sources)

    def ranges(
        self, connection: duckdb.DuckDBPyConnection
    ) -> dict[str, dict[str, tuple[int, int]]]:
        """See `Origin.ranges`."""
        return {
            source.name: _ranges(connection, index, source)
            for index, source in enumerate(self.sources)
        }

    def reread(self) -> bool:
        """See `Origin.reread`; `sources` and `problems` stay the same lists."""
        lost = {source.name for source, _ in damaged.gone(self.sources)}
        for index, old in enumerate(self.sources):
            if old.name in lost:
                again = load(old.path, old.name, allowance=Allowance())
                self.sources[index] = replace(again, bundle=old.bundle)
        self.problems[:] = self._found()
        return bool(lost)

    def leave_out(self) -> list[Problem]:
        """See `Origin.leave_out`."""
        return damaged.leave_out(self.sources)

    def unread(self) -> list[Problem]:
        """See `Origin.unread`."""
        return self.problems

    def damage(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """See `Origin.damage`."""
        return files.damage(source)

    def checked(self, source: Source) -> int:
        """See `Origin.checked`."""
        return files.checked(source)

    def located(self) -> None:
        """See `Origin.located`."""


def _ranges(
    connection: duckdb.DuckDBPyConnection, index: int, source: Source
) -> dict[str, tuple[int, int]]:
    """Return the first and the last time of each table, from the manifest where it has them."""
    found: dict[str, list[int]] = {}
    listed = {s.file: s for s in source.manifest.segments} if source.manifest else {}
    parts = []
    for table, stored in source.tables.items():
        if not stored.rows or "ts_ns" not in stored.table.arrow_schema.names:
            continue
        rest = []
        for at, path in enumerate(stored.sealed):
            segment = listed.get(f"{table}/{path.name}")
            if segment is None or segment.first_ns is None or segment.last_ns is None:
                rest.append(at)
            else:
                found.setdefault(table, []).extend((segment.first_ns, segment.last_ns))
        if rest or stored.journal_rows:
            parts += [
                f"SELECT {literal(table)} AS name, min(ts_ns) AS first, max(ts_ns) AS last "
                f"FROM {rows}"
                for rows in views.row_sets(f"r{index}", stored.only(rest))
            ]
    for table, first, last in connection.sql(" UNION ALL ".join(parts)).fetchall() if parts else ():
        if first is not None:
            found.setdefault(table, []).extend((first, last))
    return {table: (min(times), max(times)) for table, times in found.items()}
