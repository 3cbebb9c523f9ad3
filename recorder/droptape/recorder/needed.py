"""Which processes and control groups the rows of a recording name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import open_regular
from droptape.format.tables import CGROUPS, PROCESSES

from .ledger import Ledger

KEYS: dict[str, tuple[str, tuple[str, ...]]] = {
    PROCESSES.name: ("pid", ("owner_pid", "context_pid")),
    CGROUPS.name: ("id", ("cgroup_id",)),
}
"""The number in a table of names, and the columns of other tables that have it."""
_COLUMNS = {column: name for name, (_, columns) in KEYS.items() for column in columns}


def needed(ledger: Ledger) -> dict[str, set[int]]:
    """Return the numbers that segments and journals have, for each table of `KEYS`.

    Raises:
        FormatError: one of them does not tell.
        OSError: one cannot be read now.
    """
    found: dict[str, set[int]] = {name: set() for name in KEYS}
    for journal in ledger.folder.glob("*/[0-9]*.journal"):
        for name, numbers in _of_journal(journal):
            found[name].update(numbers)
    with ledger.change(quiet=True) as manifest:
        fixed = {table.name for table in manifest.tables.values() if table.role == "dictionary"}
    for segment in ledger.segments():
        if segment.table not in fixed:
            for name, numbers in _of_segment(ledger.folder / segment.file):
                found[name].update(numbers)
    return found


def _of_journal(journal: Path) -> Iterator[tuple[str, Iterable[int]]]:
    try:
        reader = JournalReader(journal)
        columns = [name for name in reader.table.dtype.names or () if name in _COLUMNS]
        for frame in reader.frames() if columns else ():
            for column in columns:
                values = pa.array(frame.records[column]).cast(pa.int64(), safe=False)
                yield _COLUMNS[column], values.unique().to_pylist()
    except OSError as exc:
        raise FormatError(f"{journal} cannot be read: {exc.strerror or exc}") from exc


def _of_segment(path: Path) -> Iterator[tuple[str, Iterable[int]]]:
    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
            for batch in file.iter_batches(columns=columns, use_threads=False) if columns else ():
                for column in columns:
                    values = batch.column(column).cast(pa.int64()).unique().drop_null()
                    yield _COLUMNS[column], values.to_pylist()
    except pa.ArrowException as exc:
        raise FormatError(f"{path} is damaged: {exc}") from exc
