"""Writing rows in the formats that every listing command offers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from .cells import json_value, text_columns
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
        QueryError: Parquet without a file, or a file that cannot be written.
    """
    if form is Format.PARQUET:
        if output is None:
            raise QueryError("parquet needs a file: -o FILE")
        with whole_file(output) as aside, pq.ParquetWriter(aside, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        return
    with destination(output) as out:
        if form is Format.CSV:
            _csv(reader, out)
        elif form is Format.JSON:
            _json(reader, out)
        elif form is Format.NDJSON:
            for row in _rows(reader):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            _grid(reader, out, markdown=form is Format.MARKDOWN)


def write_json(value: Any, output: Path | None) -> None:
    """Write one JSON value, indented."""
    with destination(output) as out:
        out.write(json.dumps(json_value(value), ensure_ascii=False, indent=2) + "\n")


def _rows(reader: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in reader:
        columns = [
            [json_value(v) for v in values(batch.column(i))] for i in range(batch.num_columns)
        ]
        names = batch.schema.names
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def values(column: pa.Array[Any]) -> list[Any]:
    """Return Python values; timestamps as ISO 8601 text in UTC, which keeps nanoseconds."""
    if pa.types.is_timestamp(column.type):
        return [None if t is None else t.replace(" ", "T") + "Z" for t in text_columns(column)]
    return list(column.to_pylist())


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
        out.write(separator + "  " + json.dumps(row, ensure_ascii=False))
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
    columns = [text_columns(column.combine_chunks(), short=True) for column in table.columns]
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
