"""Reading a recording's tables for a bundle: whole, or cut to a span of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.analyze.engine import name
from droptape.analyze.errors import RecordingError
from droptape.analyze.source import Source
from droptape.analyze.times import Window
from droptape.analyze.window import states
from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import segments
from droptape.format.schema import Table

BATCH_ROWS = 1 << 20
TOTALS = "totals"
_WHOLE = Window()


def plain_schema(table: Table) -> pa.Schema:
    """Return the columns of a table, texts as texts: a dictionary could hold what no row does."""
    return pa.schema(
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type)
        for f in table.arrow_schema
    )


def batches(source: Source, table: Table) -> Iterator[pa.Table]:
    """Yield the stored rows of a table, oldest segment first, `BATCH_ROWS` or so at a time."""
    schema = plain_schema(table)
    waiting: list[pa.Table] = []
    for part in _parts(source, table):
        waiting.append(_shaped(part, schema))
        if sum(rows.num_rows for rows in waiting) >= BATCH_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _parts(source: Source, table: Table) -> Iterator[pa.Table]:
    # A file that cannot be read is left out here as it is when a recording is asked.
    stored = source.tables[table.name]
    known, journals = set(stored.sealed), set(stored.journal_files)
    for file in segments(source.path, table.name):
        path, journal = file.path, file.path.with_suffix(".journal")
        if path not in known and journal not in journals:
            continue
        if not file.sealed:
            try:
                yield JournalReader(path).read()
                continue
            except FormatError:
                continue
            except FileNotFoundError:
                path = path.with_suffix(".parquet")
        # Also what was a journal when the recording was opened, and was sealed since.
        try:
            with pq.ParquetFile(path) as parquet:
                for batch in parquet.iter_batches(BATCH_ROWS):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as exc:
            raise RecordingError(f"{path} cannot be read: {exc}") from exc


def _shaped(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays: list[Any] = []
    for field in schema:
        if field.name in rows.column_names:
            arrays.append(rows[field.name].cast(field.type))
        else:
            arrays.append(pa.nulls(rows.num_rows, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def whole(source: Source, table: Table) -> pa.Table:
    """Return all rows of a table."""
    return pa.concat_tables([plain_schema(table).empty_table(), *batches(source, table)])


def widened(source: Source, window: Window | None) -> Window:
    """Return `window`, widened to where the exact totals begin and end.

    They are counted for about a second at a time, and would disagree with the rows of a part of it.
    """
    if window is None or TOTALS not in source.tables:
        return window or _WHOLE
    totals = whole(source, source.tables[TOTALS].table)
    ends = sorted(set(totals["ts_ns"].to_pylist()))
    before = [end for end in ends if window.start is not None and end <= window.start]
    after = [end for end in ends if window.end is not None and end >= window.end]
    return Window(before[-1] if before else None, after[0] + 1 if after else None)


def cut(table: Table, window: Window) -> Callable[[pa.Table], pa.Table]:
    """Return what takes the rows of a table in `window`.

    A total or a loss of exactly the start belongs to the second before.
    """
    column = next((n for n in ("ts_ns",) if n in table.arrow_schema.names), None)
    if column is None or window == _WHOLE or _keeps_all(table):
        return lambda rows: rows

    def take(rows: pa.Table) -> pa.Table:
        if table.role == "series" and table.cluster:
            return _states(table, rows, window)
        condition = pc.scalar(True)
        if window.start is not None:
            later = pc.greater if table.role == "series" else pc.greater_equal
            condition = condition & later(pc.field(column), window.start)
        if window.end is not None:
            condition = condition & (pc.field(column) < window.end)
        return rows.filter(condition)

    return take


def _keeps_all(table: Table) -> bool:
    return table.role == "dictionary" and table.name != "marks"


def _states(table: Table, rows: pa.Table, window: Window) -> pa.Table:
    sql = states(rows.column_names, table.cluster, "rows", window)
    order = ", ".join(map(name, (*table.cluster, *rows.column_names)))
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.sql(f"FROM ({sql}) ORDER BY {order}").to_arrow_table()
    return found.cast(rows.schema)
