"""Writing rows in the formats that every listing command offers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from .cells import interval_text, json_value, python_values, text_columns
from .errors import QueryError
from .plain import aligned
from .targets import destination, whole_file

MAX_TABLE_ROWS = 1000
"""Rows of a table or Markdown; the other formats take any number."""


class Format(str, Enum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def write(reader: pa.RecordBatchReader, form: Format, output: Path | None) -> None:
    """Write all batches of `reader`.

    Raises:
        QueryError: Parquet without a file, or with what it has no type for, or a file that cannot
            be written.
    """
    if form is Format.PARQUET:
        if output is None:
            raise QueryError("parquet needs a file: -o FILE")
        _parquet(reader, output)
        return
    with destination(output) as out:
        if form is Format.CSV:
            _csv(reader, out)
        elif form is Format.JSON:
            _json(reader, out)
        elif form is Format.NDJSON:
            for row in _rows(reader):
                out.write(_dumped(row, out) + "\n")
        else:
            _grid(reader, out, markdown=form is Format.MARKDOWN)


def write_json(value: Any, output: Path | None) -> None:
    """Write one JSON value, indented."""
    with destination(output) as out:
        out.write(_dumped(json_value(value), out, indent=2) + "\n")


def _dumped(value: Any, out: TextIO, indent: int | None = None) -> str:
    # What another encoding lacks is written as JSON writes it, so that it stays JSON.
    unicode = (out.encoding or "utf-8").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not unicode, indent=indent)


def _parquet(reader: pa.RecordBatchReader, output: Path) -> None:
    schema = reader.schema
    for index, field in enumerate(schema):
        if field.type == pa.month_day_nano_interval():
            schema = schema.set(index, pa.field(field.name, pa.string()))
    with whole_file(output) as aside:
        try:
            writer = pq.ParquetWriter(aside, schema)
        except pa.ArrowNotImplementedError as exc:
            raise QueryError(
                f"parquet cannot hold these columns: {exc}; cast the column to VARCHAR"
            ) from exc
        with writer:
            for batch in reader:
                columns = [
                    _intervals(batch.column(i)) if field.type != batch.column(i).type
                    else batch.column(i) for i, field in enumerate(schema)
                ]  # fmt: skip
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _intervals(column: pa.Array[Any]) -> pa.Array[Any]:
    """Return intervals, for which Parquet has no type, as text."""
    found = [None if value is None else interval_text(value) for value in column.to_pylist()]
    return pa.array(found, pa.string())


def _rows(reader: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in reader:
        columns = [
            [json_value(v) for v in python_values(batch.column(i))]
            for i in range(batch.num_columns)
        ]
        names = _distinct(batch.schema.names)
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def _distinct(names: Sequence[str]) -> list[str]:
    """Number columns of the same name: an object has each name once."""
    found: list[str] = []
    for name in names:
        number, other = 1, name
        while other in found:
            other, number = f"{name}_{number}", number + 1
        found.append(other)
    return found


def _csv(reader: pa.RecordBatchReader, out: TextIO) -> None:
    import csv

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(reader.schema.names)
    for batch in reader:
        columns = [text_columns(batch.column(i), iso=True) for i in range(batch.num_columns)]
        writer.writerows(zip(*columns, strict=True))


def _json(reader: pa.RecordBatchReader, out: TextIO) -> None:
    separator = "[\n"
    for row in _rows(reader):
        out.write(separator + "  " + _dumped(row, out))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def _grid(reader: pa.RecordBatchReader, out: TextIO, markdown: bool) -> None:
    batches: list[pa.RecordBatch] = []
    shown = total = 0
    for batch in reader:
        if shown < MAX_TABLE_ROWS:
            batches.append(batch.slice(0, MAX_TABLE_ROWS - shown))
            shown += batches[-1].num_rows
        total += batch.num_rows
    table = pa.Table.from_batches(batches, reader.schema)
    columns = [
        text_columns(column.combine_chunks(), short=True, rounded=not markdown)
        for column in table.columns
    ]
    right = [is_number(field.type) for field in reader.schema]
    out.writelines(line + "\n" for line in aligned(reader.schema.names, columns, right, markdown))
    if total > shown:
        out.write(f"\n{shown:,} of {total:,} rows; --format csv writes all\n")
    elif total == 0 and not markdown:
        out.write("(no rows)\n")


def is_number(kind: pa.DataType) -> bool:
    """Say whether a column is numeric, so set to the right."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
