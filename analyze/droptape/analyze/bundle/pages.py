"""Looking into a Parquet file from a stranger before it is read.

The footer says how large everything is; the pages say it again, and readers believe the pages when
they make room for them. So both are looked at, and must agree, before a page is unpacked: there is
no page, row or value more than announced, and nothing announced is larger than allowed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.analyze.source import TABLE_KEY
from droptape.format.schema import Table

from .thrift import ThriftError, struct

MAX_ROWS = 100_000_000
MAX_GROUP_ROWS = 1 << 21
MAX_GROUPS = 4096
MAX_PAGES = 100_000
MAX_FOOTER = 16 << 20
MAX_GROUP_BYTES = 512 << 20
MAX_RATIO = 2_000
"""How many times larger than the file its pages may be when unpacked, above `FREE`."""
FREE = 32 << 20
MAX_TEXT = 65_536
"""Bytes of one text."""
_HEADER = 8192
_SIZE, _PACKED = 2, 3
_VALUES_IN = (5, 8)  # data page, data page version 2: num_values is field 1 of each
_DICTIONARY = 7


class UnsafeFileError(ValueError):
    """A file is damaged, or not what a bundle may hold."""


def rewrite(path: Path, table: Table) -> int:
    """Read all of a Parquet file and write the same rows anew in its place; return how many.

    Raises:
        UnsafeFileError: it is damaged, larger inside than allowed, or not of `table`.
    """
    anew = path.with_name(f".{path.name}")
    try:
        with path.open("rb") as raw:
            _check_footer_size(raw)
        footer = pq.read_metadata(path)
        names, texts = _check_schema(footer, table)
        with path.open("rb") as raw:
            _check_sizes(footer, raw)
        schema = _plain(table, names)
        with (
            pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file,
            pq.ParquetWriter(anew, schema, compression="zstd", store_schema=False) as out,
        ):
            for group in range(footer.num_row_groups):
                out.write_table(_checked(file.read_row_group(group, names), schema))
            out.add_key_value_metadata({TABLE_KEY.decode(): json.dumps(table.to_json())})
        anew.replace(path)
    except UnsafeFileError:
        raise
    except (
        pa.ArrowException, ThriftError, OSError, ValueError, KeyError, OverflowError, MemoryError,
    ) as exc:  # fmt: skip
        raise UnsafeFileError((str(exc).splitlines() or [type(exc).__name__])[0][:200]) from exc
    return int(footer.num_rows)


def _plain(table: Table, names: list[str]) -> pa.Schema:
    kinds = {f.name: f.type for f in table.arrow_schema}
    return pa.schema(
        pa.field(n, kinds[n].value_type if pa.types.is_dictionary(kinds[n]) else kinds[n])
        for n in names
    )


def _checked(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows; UnsafeFileError or pa.ArrowException when a value is not valid."""
    _check_texts(rows)
    rows.validate(full=True)
    arrays = [rows[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _check_footer_size(raw: BinaryIO) -> None:
    length = raw.seek(0, 2)
    raw.seek(max(length - 8, 0))
    tail = raw.read(8)
    if len(tail) < 8 or tail[4:] != b"PAR1":
        raise UnsafeFileError("not a Parquet file")
    if int.from_bytes(tail[:4], "little") > min(MAX_FOOTER, length):
        raise UnsafeFileError("its footer is too large")


def _check_schema(footer: pq.FileMetaData, table: Table) -> tuple[list[str], list[str]]:
    """Hold the columns against the declaration; return their names, and which are texts."""
    declared = {field.name: field.type for field in table.arrow_schema}
    found = footer.schema.to_arrow_schema()
    if len(set(found.names)) != len(found.names):
        raise UnsafeFileError("a column is there twice")
    texts = []
    for field in found:
        kind = declared.get(field.name)
        if kind is None:
            raise UnsafeFileError(f"the column {field.name[:64]!a} is not declared")
        text = pa.types.is_dictionary(kind) or pa.types.is_string(kind)
        actual = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if actual != (pa.string() if text else kind):
            raise UnsafeFileError(f"the column {field.name} is {actual}, declared as {kind}")
        if text:
            texts.append(field.name)
    return list(found.names), texts


def _check_sizes(footer: pq.FileMetaData, raw: BinaryIO) -> None:
    length = raw.seek(0, 2)
    groups = [footer.row_group(i) for i in range(min(footer.num_row_groups, MAX_GROUPS + 1))]
    if len(groups) > MAX_GROUPS or not 0 <= footer.num_rows <= MAX_ROWS:
        raise UnsafeFileError("it has too many rows")
    if sum(group.num_rows for group in groups) != footer.num_rows:
        raise UnsafeFileError("its rows are not as many as it says")
    total = pages = 0
    for group in groups:
        if not 0 <= group.num_rows <= MAX_GROUP_ROWS:
            raise UnsafeFileError("a row group has too many rows")
        inside = 0
        for number in range(group.num_columns):
            size, count = _column(group.column(number), group.num_rows, raw, length)
            inside += size
            pages += count
        total += inside
        if inside > MAX_GROUP_BYTES or pages > MAX_PAGES or total > FREE + MAX_RATIO * length:
            raise UnsafeFileError("it would be too large when unpacked")


def _column(
    column: pq.ColumnChunkMetaData, rows: int, raw: BinaryIO, length: int
) -> tuple[int, int]:
    """Walk over the pages of a column; return their size when unpacked, and how many."""
    starts = [column.data_page_offset]
    if column.has_dictionary_page and column.dictionary_page_offset:
        starts.append(column.dictionary_page_offset)
    at = min(starts)
    end = at + column.total_compressed_size
    if column.num_values != rows or at < 4 or not at <= end <= length:
        raise UnsafeFileError("a column is not where its footer says")
    size = values = pages = 0
    while at < end:
        raw.seek(at)
        page, header = struct(raw.read(min(_HEADER, end - at)))
        packed, unpacked = _number(page, _PACKED), _number(page, _SIZE)
        size += unpacked
        pages += 1
        at += header + packed
        for kind in _VALUES_IN:
            if isinstance(page.get(kind), dict):
                values += _number(page[kind], 1)
        if isinstance(page.get(_DICTIONARY), dict):
            _number(page[_DICTIONARY], 1)
        if values > rows or pages > MAX_PAGES or size > MAX_GROUP_BYTES:
            raise UnsafeFileError("a column holds more than its footer says")
    if at != end or values != rows:
        raise UnsafeFileError("the pages of a column are not as its footer says")
    return size, pages


def _number(fields: dict[int, Any], field: int) -> int:
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value <= MAX_GROUP_BYTES:
        raise UnsafeFileError("a page has no valid size")
    return value


def _check_texts(rows: pa.Table) -> None:
    for column in rows.columns:
        for chunk in column.chunks:
            if not pa.types.is_dictionary(chunk.type):
                continue
            chunk.dictionary.validate(full=True)
            lengths = pc.binary_length(chunk.dictionary)
            longest = pc.max(lengths).as_py() or 0
            if longest > MAX_TEXT:
                raise UnsafeFileError(f"a text is {longest:,} bytes long")
            # As many bytes as the rows have together when they are no dictionary any more.
            written = pc.sum(lengths.take(chunk.indices)).as_py() or 0
            if written > MAX_GROUP_BYTES:
                raise UnsafeFileError("a column of texts is too large")
