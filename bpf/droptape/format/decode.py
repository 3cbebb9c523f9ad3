"""From the kernel's records to the columns of a file.

No code here runs per row: every column is converted as an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .schema import Column, Table
from .types import ADDRESS, BOOL, ENUM8, ENUM32, MONO, STRING, TCP_FLAGS, TEXT16, TEXT64, WALL

Records = npt.NDArray[np.void]

_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
FLAG_TEXT: tuple[str | None, ...] = (
    None,
    *("|".join(n for i, n in enumerate(_FLAGS) if value >> i & 1) for value in range(1, 256)),
)
"""Text of each value of the TCP flags byte; None for 0 (no TCP header)."""

_SHARED = 8192


def decode(
    table: Table,
    records: Records | Mapping[str, npt.NDArray[Any]],
    wall_offset_ns: int | npt.NDArray[np.int64],
) -> pa.Table:
    """Turn records of `table` into Arrow columns.

    Args:
        table: the declaration, with the kernel's enums filled in.
        records: shape (rows,), dtype `table.dtype`, or its columns one by one, those that have the
            same value in all rows of shape (1,).
        wall_offset_ns: UTC minus CLOCK_MONOTONIC in nanoseconds when the records were read, one
            per record, or one for all of an array of records.

    Returns:
        A table of `table.arrow_schema` with the same rows in the same order.
    """
    arrays: list[pa.Array[Any] | pa.ChunkedArray[Any]] = []
    rows = len(records) if isinstance(records, np.ndarray) else np.size(wall_offset_ns)
    for column in table:
        values = np.ascontiguousarray(records[column.name])
        if column.type is MONO:
            clock = np.broadcast_to(np.asarray(wall_offset_ns, np.int64), rows)
            arrays.append(pa.array(values.view("i8") + clock))
            arrays.append(_clock(clock))
        elif len(values) < rows:
            arrays.append(_repeat(_convert(column, values), rows))
        else:
            arrays.append(_convert(column, values))
    return pa.Table.from_arrays(arrays, schema=table.arrow_schema)


def _clock(offsets: npt.NDArray[np.int64]) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    if len(offsets) and (offsets == offsets[0]).all():
        return _repeat(pa.array(offsets[:1]), len(offsets))
    return pa.array(np.ascontiguousarray(offsets))


def _repeat(value: pa.Array[Any], rows: int) -> pa.ChunkedArray[Any]:
    """Return `rows` times the only value of `value`, in chunks that share their memory."""
    chunk = value.take(pa.array(np.zeros(min(_SHARED, rows), np.int32)))
    whole, rest = divmod(rows, len(chunk))
    return pa.chunked_array([chunk] * whole + [chunk[:rest]], value.type)


def _convert(column: Column, values: npt.NDArray[Any]) -> pa.Array[Any]:
    if column.enum is not None:
        return _enum(column, values)
    special = _SPECIAL.get(column.type.name)
    if special is not None:
        return special(values)
    mask = values == column.null_if if column.null_if is not None else None
    if column.type is BOOL:
        return pa.array(values.astype(bool), mask=mask)
    target = column.type.arrow
    stored = np.dtype(target.to_pandas_dtype())
    # Unsigned 64-bit values keep their bits; smaller ones widen into a signed type that holds them.
    same_width = values.dtype.itemsize == stored.itemsize
    return pa.array(values.view(stored) if same_width else values.astype(stored), target, mask=mask)


def _fixed_binary(values: npt.NDArray[Any], width: int) -> pa.FixedSizeBinaryArray:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(values.tobytes())]
    )


def _address(values: npt.NDArray[Any]) -> pa.Array[Any]:
    return _fixed_binary(values, 16)


def _named(
    values: npt.NDArray[Any],
    stored: Callable[[npt.NDArray[Any]], pa.Array[Any]],
    name: Callable[[Any], str | None],
) -> pa.Array[Any]:
    """Return the names of `values` as a dictionary array, null where there is none.

    Args:
        values: the values, contiguous.
        stored: makes the Arrow array of some.
        name: names one value as `stored` keeps it.
    """
    # Rows are sorted so that equal values meet, and to see that takes a tenth of the time.
    starts = _starts_of_runs(values)
    runs = 4 * len(starts) <= len(values)
    encoded = stored(values[starts] if runs else values).dictionary_encode()
    texts = [name(value) for value in encoded.dictionary.to_pylist()]
    # Texts can repeat: the kernel leaves bytes behind the end of a name, and two numbers can have
    # the same name.
    keep = list(dict.fromkeys(text for text in texts if text is not None))
    codes = encoded.indices.to_numpy()
    if keep != texts:
        number = {text: i for i, text in enumerate(keep)}
        renumber = [-1 if text is None else number[text] for text in texts]
        codes = np.array(renumber, np.int32)[codes]
    if runs:
        codes = np.repeat(codes, np.diff(starts, append=len(values)))
    mask = codes < 0 if None in texts else None
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int32(), mask=mask), pa.array(keep, pa.string())
    )


def _starts_of_runs(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the place of the first of equal values that follow each other, for all of them."""
    # As numbers, one after the other: NumPy is slow with short rows and slower with bytes.
    width = values.itemsize // 8 if values.dtype.kind == "S" else 1
    numbers = values.view("u8") if values.dtype.kind == "S" else values
    first = np.ones(len(values), bool)
    if len(values):
        first[1:] = numbers[width::width] != numbers[:-width:width]
    for word in range(1, width):
        first[1:] |= numbers[word + width :: width] != numbers[word:-width:width]
    return np.flatnonzero(first)


def _plain_text(values: npt.NDArray[Any]) -> pa.Array[Any]:
    return _fixed_binary(values, values.dtype.itemsize)


def _text(values: npt.NDArray[Any]) -> pa.Array[Any]:
    def name(raw: bytes) -> str | None:
        return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") or None

    return _named(values, _plain_text, name)


def _flags(values: npt.NDArray[Any]) -> pa.Array[Any]:
    return _named(values, pa.array, FLAG_TEXT.__getitem__)


def _enum(column: Column, values: npt.NDArray[Any]) -> pa.Array[Any]:
    names: Mapping[int, str] = column.enum.values if column.enum else {}

    def name(value: int) -> str | None:
        return None if value == column.null_if else names.get(value, str(value))

    return _named(values, pa.array, name)


def _strings(values: npt.NDArray[Any]) -> pa.Array[Any]:
    return pa.array(values.tolist(), pa.string())


_SPECIAL: dict[str, Callable[[npt.NDArray[Any]], pa.Array[Any]]] = {
    ADDRESS.name: _address,
    TEXT16.name: _text,
    TEXT64.name: _text,
    TCP_FLAGS.name: _flags,
    STRING.name: _strings,
}


def enum_name(column: Column, value: int) -> str:
    """Name one value of an enum column; the number as text when it has no name."""
    if column.type not in (ENUM8, ENUM32) or column.enum is None:
        raise TypeError(f"{column.name} is not an enum column")
    return column.enum.values.get(value, str(value))


def rows_to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Build the table of a dictionary from plain rows; columns a row lacks are null.

    WALL columns take nanoseconds, the others what their Arrow type takes; in texts, what UTF-8
    cannot hold is escaped.
    """
    arrays: list[pa.Array[Any]] = []
    for column in table:
        values = [row.get(column.name) for row in rows]
        if column.type is MONO:
            raise TypeError(f"{table.name} has a MONO column: its rows come as records")
        target = pa.int64() if column.type is WALL else column.type.arrow
        if pa.types.is_dictionary(target):
            arrays.append(_texts(values).dictionary_encode())
        elif pa.types.is_string(target):
            arrays.append(_texts(values))
        else:
            arrays.append(pa.array(values, target))
    return pa.Table.from_arrays(arrays, schema=table.arrow_schema)


def _texts(values: Sequence[Any]) -> pa.Array[Any]:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # a name that is no UTF-8, as Python keeps it
        return pa.array(
            [
                v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v
                for v in values
            ],
            pa.string(),
        )
