"""The views of a dataset: one scan for each table, whatever the number of hosts.

``stored.<table>_<n>`` has the files with the same columns, and the views of ``raw`` and ``main``
are made over these, as for a recording. Addresses are text in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from droptape.analyze import causes, events
from droptape.analyze.engine import name
from droptape.analyze.times import Window
from droptape.analyze.views import View
from droptape.analyze.window import is_state, is_timed, span, states
from droptape.format.schema import Table

from .catalog import Entry
from .columns import DATE, HOST, StoredColumn, stored_columns

PARTITIONS = (DATE.name, HOST.name)
ADDRESS = "VARCHAR"
"""The type of addresses in the views of ``raw``."""


class Engine(Protocol):
    """What makes views."""

    def scan(self, scanned: str, files: list[str], columns: list[tuple[str, str]]) -> None:
        """Make ``stored.<scanned>`` of files (paths in the dataset) with these columns."""

    def execute(self, query: str) -> object:
        """Run a CREATE VIEW in DuckDB's dialect."""


def create(
    engine: Engine, entries: list[Entry], window: Window | None, present: set[str]
) -> dict[str, View]:
    """Create all views of `entries`, and return those that users see.

    Args:
        engine: where.
        entries: the recordings.
        window: the rows that are asked, None for all.
        present: paths of the files to read.
    """
    views: dict[str, View] = {}
    paths: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for file in entry.files:
            if file.path in present:
                paths.setdefault(file.table, {}).setdefault(entry.path, []).append(file.path)
    for table in dict.fromkeys(t for entry in entries for t in entry.tables):
        views[table] = _create(engine, table, entries, window, paths.get(table, {}))
    views[events.NAME] = events.create(engine.execute, views, ADDRESS, (HOST, DATE))
    explained_by = causes.create(engine.execute, views, ADDRESS)
    if explained_by is not None:
        views[causes.NAME] = explained_by
    return views


def _create(
    engine: Engine,
    table: str,
    entries: list[Entry],
    window: Window | None,
    paths: dict[str, list[str]],
) -> View:
    declared = [entry.tables[table].table for entry in entries if table in entry.tables]
    columns = _all_columns(declared)
    kinds: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for entry in entries:
        if table in entry.tables:
            files = kinds.setdefault(entry.tables[table].columns, [])
            files += paths.get(entry.path, [])
    parts = []
    for number, (stored, files) in enumerate(kinds.items()):
        scanned = f"{table}_{number}"
        if files:
            engine.scan(scanned, files, list(stored))
            parts.append(_select(scanned, declared[0], columns, {n for n, _ in stored}, window))
    query = " UNION ALL ".join(parts) or _none(columns)
    engine.execute(f"CREATE VIEW raw.{name(table)} AS {query}")
    engine.execute(f"CREATE VIEW main.{name(table)} AS SELECT * FROM raw.{name(table)}")
    shown = (*(c.view for c in columns), HOST, DATE)
    return View(table, declared[0].doc, shown, declared[0])


def _all_columns(declared: Iterable[Table]) -> list[StoredColumn]:
    found: dict[str, StoredColumn] = {}
    # Thousands of recordings share a few declarations.
    for table in {id(table): table for table in declared}.values():
        for column in stored_columns(table):
            found.setdefault(column.view.name, column)
    return list(found.values())


def _select(
    scanned: str,
    table: Table,
    columns: list[StoredColumn],
    present: set[str],
    window: Window | None,
) -> str:
    rows, condition = f"stored.{name(scanned)}", ""
    if window is not None and is_timed(table):
        if is_state(table):
            # The host and the recording come last, because all rows of a key have the same.
            names = [c.name for c in columns if c.name in present]
            keys = ("recording", *(key for key in table.cluster if key in present))
            rows = f"({states([*names, *PARTITIONS], keys, rows, window)})"
        else:
            condition = span(table, window)
    shown = [f"{_shown(c, present)} AS {name(c.view.name)}" for c in columns]
    picked = ", ".join([*shown, *(f"t.{name(p)}" for p in reversed(PARTITIONS))])
    return f"SELECT {picked} FROM {rows} AS t {condition}"


def _shown(column: StoredColumn, present: set[str]) -> str:
    # `mono_ns` is made from two stored columns, which come together.
    return column.show if column.name in present else f"NULL::{column.view.type}"


def _none(columns: list[StoredColumn]) -> str:
    picked = [f"NULL::{c.view.type} AS {name(c.view.name)}" for c in columns]
    picked += [f"NULL::{c.type} AS {name(c.name)}" for c in (HOST, DATE)]
    return f"SELECT {', '.join(picked)} WHERE false"
