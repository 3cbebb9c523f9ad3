"""What the exports ask of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from droptape.analyze.sqlfiles import load
from droptape.format.tables import TABLES

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Written:
    """How many items a writer wrote, and of how many events it took one."""

    items: int
    every: int = 1


def events(rec: Recording, limit: int, owners: int) -> Iterator[dict[str, Any]]:
    """Yield rows of all kinds in order of time: export_events.sql."""
    return _rows(rec, load("export_events", limit=str(limit), owners=str(owners)))


def counts(rec: Recording) -> Iterator[dict[str, Any]]:
    """Yield exact counts, series by series: export_counts.sql."""
    return _of(rec, "export_counts", "totals")


def queues(rec: Recording) -> Iterator[dict[str, Any]]:
    """Yield the accept queues, listener by listener: export_queues.sql."""
    return _of(rec, "export_queues", "listeners")


def losses(rec: Recording) -> Iterator[dict[str, Any]]:
    """Yield what could not be recorded: export_losses.sql."""
    return _of(rec, "export_losses", "losses")


def _of(rec: Recording, question: str, table: str) -> Iterator[dict[str, Any]]:
    """Ask of a table; nothing where a recording has none, or has it without the columns."""
    declared = {column for column in TABLES[table].arrow_schema.names if column != "clock_ns"}
    if table not in rec.views:
        return iter(())
    having = {column.name for column in rec.views[table].columns}
    if not {c for c in declared if not c.endswith("_ns") and c != "location"} <= having:
        return iter(())
    return _rows(rec, load(question, **{table: table}))


def _rows(rec: Recording, sql: str) -> Iterator[dict[str, Any]]:
    for batch in rec.connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
        yield from batch.to_pylist()
