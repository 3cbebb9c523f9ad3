"""The rollups of sealed files (droptape.format.rollup): counts that save reading the rows.

For each there is a view in ``raw`` with all events once more: a row for each count where a file
has the rollup, and for each event where not. Questions by its columns ask it; the others ask rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from droptape.format.rollup import CAUSES, FIRST, LAST, OWNERS, ROWS, Rollup, Slots
from droptape.format.service import port_sql
from droptape.format.types import CGROUP

from .dated import Dated
from .dictionary import Dictionaries
from .engine import literal, name
from .events import NAME, amount, benign
from .source import Source, StoredTable
from .sqlfiles import load
from .times import Window
from .views import View, copy, named_columns, part_of, select_columns, select_rows

if TYPE_CHECKING:
    from .recording import Recording

_SHARED = ("kind", "cause", "benign", "recording")
_OWN = {
    CAUSES: {"function": "VARCHAR"},
    OWNERS: {"owner_comm": "VARCHAR", "owner_pid": "BIGINT", "container": "VARCHAR"},
}
_COLUMNS = {
    CAUSES: frozenset({*_SHARED, *_OWN[CAUSES]}),
    OWNERS: frozenset({*_SHARED, *_OWN[OWNERS], "port"}),
}
"""What events are counted by."""
_ALL_TIME = 1 << 62
_WORTH = 50_000
"""Rows of each recording that are read as fast as one more view is made."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to ask for a question that counts.

    Attributes:
        rows: the table, as SQL.
        number: the SQL of how many events a row is, before their weight.
        moment: of a time in its slot, ns since 1970.
        since: of the first time, ns since 1970.
        until: of the last.
    """

    rows: str
    number: str = "1"
    moment: str = "epoch_ns(ts)"
    since: str = "epoch_ns(ts)"
    until: str = "epoch_ns(ts)"

    @property
    def counted(self) -> bool:
        """Whether these are counts."""
        return self.number != "1"


def ask(
    rec: Recording,
    by: Collection[str],
    table: str = NAME,
    *,
    origin_ns: int = 0,
    width_ns: int | None = None,
) -> Asked:
    """Return what to ask for a question that counts events by columns: counts, or the rows.

    Args:
        rec: the recordings.
        by: the columns.
        table: the kind of events, or all.
        origin_ns: what buckets of time are counted from, ns since 1970.
        width_ns: their width; None where time does not count.
    """
    if not rec.database.remote:
        for rollup, slots in rec.origin.rollups.items():
            fit = width_ns is None or all(one.fit(origin_ns, width_ns) for one in slots)
            if fit and _COLUMNS[rollup].issuperset(by):
                chosen = "" if table == NAME else f" WHERE kind = {literal(table)}"
                rows = f"(SELECT * FROM raw.{_view(rollup)}{chosen})"
                return Asked(rows, name("rows"), "moment_ns", "since_ns", "until_ns")
    return Asked(f"raw.{name(table)}")


def begin(rec: Recording, start_ns: int, width_ns: int) -> int:
    """Return where buckets begin so that slots fit into them: at `start_ns`, or a slot earlier."""
    slots = max(rec.origin.rollups.get(CAUSES, ()), key=lambda one: one.width_ns, default=None)
    if slots is None or width_ns % slots.width_ns:
        return start_ns
    return start_ns - (start_ns - slots.origin_ns) % slots.width_ns


def differences(rec: Recording) -> Iterator[tuple[str, int]]:
    """Compare all counts with the rows; yield recordings where some differ, and how many do."""
    for rollup, slots in rec.origin.rollups.items():
        widest = max(slots, key=lambda one: one.width_ns)
        aligned = all(one.fit(widest.origin_ns, widest.width_ns) for one in slots)
        columns = ", ".join(map(name, sorted(_COLUMNS[rollup])))
        times = "epoch_ns(ts) AS moment_ns, epoch_ns(ts) AS since_ns, epoch_ns(ts) AS until_ns"
        sql = load(
            "counts_rows",
            columns=columns,
            counts=f"(SELECT *, {name('rows')} AS number FROM raw.{_view(rollup)})",
            rows=f"(SELECT {columns}, amount, 1 AS number, {times} FROM raw.events)",
            origin=str(widest.origin_ns if aligned else 0),
            width=str(widest.width_ns if aligned else _ALL_TIME),
        )
        yield from rec.database.ask(sql).fetchall()


def create(
    connection: duckdb.DuckDBPyConnection,
    sources: list[Source],
    dictionaries: list[Dictionaries],
    views: Mapping[str, View],
    window: Window | None,
) -> dict[str, set[Slots]]:
    """Create the views of counts; return those that have any, and the slots of these."""
    made: dict[str, set[Slots]] = {}
    for rollup in _COLUMNS:
        tables = [
            (_Table(connection, f"r{index}", source, stored, rollup), known, part)
            for index, (source, known) in enumerate(zip(sources, dictionaries, strict=True))
            for part in (part_of(source, window),)
            for table, stored in source.tables.items()
            if table in views and stored.table.role == "events"
        ]
        counts = [_usable(table.stored, rollup, known, part) for table, known, part in tables]
        slots = {one.slots for of in counts for one in of.values()}
        rows = sum(int(one.counts[ROWS].sum()) for of in counts for one in of.values())
        if rows >= _WORTH * len(sources):
            parts = (
                sql
                for (table, known, part), of in zip(tables, counts, strict=True)
                for sql in table.parts(of, known, part)
            )
            query = " UNION ALL ".join(parts)
            connection.execute(f"CREATE VIEW raw.{_view(rollup)} AS {query}")
            made[rollup] = slots
    return made


def _view(rollup: str) -> str:
    # No table of a recording can be called like this, which is no identifier (schema.py).
    return name(f"counted {rollup}")


def _usable(
    stored: StoredTable, rollup: str, known: Dictionaries, window: Window | None
) -> dict[Path, Rollup]:
    """Return the rollups of files with rows in `window` only that can be asked together."""
    sealed = set(stored.sealed)
    there = {p: one for p, one in stored.rollups.get(rollup, {}).items() if p in sealed}
    first = next(iter(there.values()), None)
    if first is None:
        return {}
    for column in first.table:
        join = column.type.join
        if column.type is CGROUP and join and isinstance(known.read(join, timed=True), Dated):
            return {}  # a count has rows of before and after it changed
    return {
        path: one
        for path, one in there.items()
        if one.table == first.table and _within(one, window)
    }


def _within(rollup: Rollup, window: Window | None) -> bool:
    """Say whether all that was counted is in `window`."""
    if window is None or not len(rollup.counts):
        return True
    first, last = rollup.counts[FIRST].min(), rollup.counts[LAST].max()
    return (window.start is None or first >= window.start) and (
        window.end is None or last < window.end
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of one recording."""

    connection: duckdb.DuckDBPyConnection
    schema: str
    source: Source
    stored: StoredTable
    rollup: str

    def parts(
        self, counts: Mapping[Path, Rollup], known: Dictionaries, window: Window | None
    ) -> Iterator[str]:
        """Yield the queries of the counts, and of the rows that are in none."""
        stored = self.stored
        if counts:
            yield self._counts(list(counts.values()), known)
        rest = [at for at, path in enumerate(stored.sealed) if path not in counts]
        if rest or stored.journal_files or not counts:
            rows = select_rows(
                known, self.schema, self.source.name, stored.only(rest), True, window
            )
            names = {view.name for _, view in named_columns(stored.table)}
            timed = f"SELECT *, epoch_ns(ts) AS moment_ns FROM ({rows})"
            times = ("moment_ns", "moment_ns", "moment_ns")
            yield self._events(timed, names, port_sql(names), "1", times)

    def _counts(self, counts: list[Rollup], known: Dictionaries) -> str:
        table = counts[0].table
        stored = f"{self.schema}.{name(f'{self.rollup} of {table.name}')}"
        arrays = [one.to_arrow() for one in counts]
        copy(self.connection, stored, pa.concat_tables(arrays).unify_dictionaries())
        columns, joins = select_columns(known, table, raw=True, only_ip=True)
        rows = f"SELECT {', '.join(columns)}, t.slot_ns, t.first_ns, t.last_ns"
        names = {view.name for _, view in named_columns(table)}
        times = ("slot_ns", "first_ns", "last_ns")
        rows = f"{rows} FROM {stored} AS t {joins}"
        return self._events(rows, names, "port", name("rows"), times)

    def _events(
        self, rows: str, names: Iterable[str], port: str, number: str, times: tuple[str, str, str]
    ) -> str:
        """Return the query of rows in the columns of the view."""
        there = frozenset(names)
        table = self.stored.table
        own = [
            f"{name(column) if column in there else f'NULL::{kind}'} AS {name(column)}"
            for column, kind in _OWN[self.rollup].items()
        ]
        if "port" in _COLUMNS[self.rollup]:
            own.append(f"{port} AS port")
        picked = (
            f"{literal(table.name)} AS kind",
            f"{name(table.cause) if table.cause in there else 'NULL'}::VARCHAR AS cause",
            f"{benign(there)} AS benign",
            f"{literal(self.source.name)} AS recording",
            *own,
            f"({amount(there)})::BIGINT AS amount",
            f"{number}::BIGINT AS {name('rows')}",
            f"{times[0]} AS moment_ns, {times[1]} AS since_ns, {times[2]} AS until_ns",
        )
        return f"SELECT {', '.join(picked)} FROM ({rows})"
