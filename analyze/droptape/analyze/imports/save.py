"""Saving the rows beside a recording: as one Parquet file, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.analyze.errors import QueryError
from droptape.analyze.find import find
from droptape.analyze.marks import landmarks
from droptape.analyze.source import TABLE_KEY, Source, load
from droptape.analyze.times import instant
from droptape.format.layout import IMPORTED, stem
from droptape.format.manifest import sync_folder
from droptape.format.schema import Column, Table
from droptape.format.types import F64, I64, STRING, WALL

from .forms import Options, Reader, hey, k6, table
from .rows import ImportFileError, Request
from .wrk import wrk

FORMS: dict[str, Reader] = {"wrk": wrk, "k6": k6, "hey": hey, "csv": table}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class Imported:
    """What was saved.

    Attributes:
        table: its name, imported_<name>.
        path: its folder.
        rows: how many.
        first_ns: the earliest time, UTC.
        last_ns: the latest.
        inside: rows in the time of the recording.
    """

    table: str
    path: Path
    rows: int
    first_ns: int
    last_ns: int
    inside: int


def declaration(name: str, form: str) -> Table:
    """Return the declaration of an imported table."""
    return Table(
        name,
        f"Requests of a load generator, imported from the output of {form}.",
        (
            Column("ts", WALL, "start of the request (k6: its end) or of the interval"),
            Column("seconds", F64, "length of the interval; 0 for one request", "s"),
            Column("requests", I64, "requests that the row stands for"),
            Column("failed", I64, "of these, how many failed"),
            Column("latency_ms", F64, "latency, of several requests the mean", "ms"),
            Column("p50_ms", F64, "median latency of several requests", "ms"),
            Column("p90_ms", F64, "the latency that 90 % of them did not exceed", "ms"),
            Column("p99_ms", F64, "the latency that 99 % of them did not exceed", "ms"),
            Column("max_ms", F64, "the highest latency of them", "ms"),
            Column("status", I64, "HTTP status"),
            Column("label", STRING, "what was requested, where it is known"),
        ),
        role="series",
    )  # fmt: skip


def import_file(
    recording: str | os.PathLike[str],
    file: str | os.PathLike[str],
    form: str,
    *,
    name: str | None = None,
    start: str | int | None = None,
    time: str | None = None,
    latency: str | None = None,
    unit: str | None = None,
) -> Imported:
    """Save the output of a load generator as a table of a recording.

    Args:
        recording: its folder.
        file: what the load generator wrote.
        form: wrk, k6, hey, or csv for any CSV file with a column of times.
        name: of the table, after ``imported_``; `form` when None.
        start: when the load began, for files that count from there; as `Recording.between` takes
            times. When None, and the recording was made around a command, its start.
        time: the column of times, for csv.
        latency: the column of latencies, for csv.
        unit: of the latencies, for csv: s, ms, us or ns.

    Raises:
        RecordingError: `recording` is none.
        ImportFileError: the file is not what `form` says, or there is such a table already.
    """
    (path,) = find([recording])[:1]
    source = load(path, path.name)
    if form not in FORMS:
        raise QueryError(f"there is no format {form}; there are: {', '.join(FORMS)}")
    if unit not in (None, "s", "ms", "us", "ns"):
        raise QueryError(f"{unit!r} is no unit of latencies: s, ms, us or ns")
    called = name or form
    if not _NAME.fullmatch(called):
        raise QueryError(f"{called!r} is no name for a table: a-z, 0-9 and _, at most 41 of them")
    target = path / (IMPORTED + called)
    if os.path.lexists(target):
        raise ImportFileError(f"{path} has an imported table {called} already: give another --name")
    options = Options(_start(source, start), time, latency, unit)
    rows = FORMS[form](Path(file), options)
    try:
        return _save(target, rows, declaration(target.name, form), source)
    except OSError as exc:
        raise ImportFileError(f"{target} cannot be written: {exc.strerror or exc}") from exc


def _start(source: Source, start: str | int | None) -> int | None:
    if start is not None:
        return instant(start, landmarks([source]))
    manifest = source.manifest
    return manifest.started_ns if manifest and manifest.options.get("command") else None


def _save(target: Path, rows: Iterator[Request], declared: Table, source: Source) -> Imported:
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        found = _write(aside, rows, declared, source, target)
        aside.chmod(target.parent.stat().st_mode & 0o777)
        if os.path.lexists(target):
            raise ImportFileError(f"{target} has appeared meanwhile")
        aside.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return found


def _write(
    aside: Path, rows: Iterator[Request], declared: Table, source: Source, target: Path
) -> Imported:
    marks = landmarks([source])
    low = marks.start or 0
    high = marks.end if marks.end is not None else 1 << 63
    schema = declared.arrow_schema.with_metadata({TABLE_KEY: json.dumps(declared.to_json())})
    count = inside = 0
    first, last = 1 << 63, 0
    path = aside / "rows"
    with path.open("xb") as file:
        writer = pq.ParquetWriter(
            file, schema, compression="zstd", write_page_checksum=True, store_schema=False
        )
        writer.add_key_value_metadata({TABLE_KEY.decode(): json.dumps(declared.to_json())})
        with writer:
            while batch := list(islice(rows, _BATCH)):
                writer.write_table(_columns(batch, schema))
                count += len(batch)
                times = [row.ts for row in batch]
                first, last = min(first, *times), max(last, *times)
                inside += sum(low <= ts <= high for ts in times)
        if not count:
            raise ImportFileError("the file has no requests in it")
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o640)
    path.rename(aside / f"{stem(1, min(first, 4_000_000_000_000_000_000))}.parquet")
    return Imported(target.name, target, count, first, last, inside)


def _columns(batch: list[Request], schema: pa.Schema) -> pa.Table:
    values: list[list[Any]] = [list(column) for column in zip(*batch, strict=True)]
    arrays = [pa.array(v, f.type) for v, f in zip(values, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
