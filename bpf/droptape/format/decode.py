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


def decode(
    table: Table,
    records: Records | Mapping[str, npt.NDArray[Any]],
    wall_offset_ns: int | npt.NDArray[np.int64],
) -> pa.Table:
    """Turn records of `table` into Arrow columns.

    Args:
        table: the declaration, with the kernel's enums filled in.
        records: shape (rows,), dtype `table.dtype`, or its columns one by one.
        wall_offset_ns: UTC minus CLOCK_MONOTONIC in nanoseconds when the records were read, one
            for all or one per record.

    Returns:
        A table of `table.arrow_schema` with the same rows in the same order.
    """
    arrays: list[pa.Array[Any]] = []
    for column in table:
        values = np.ascontiguousarray(records[column.name])
        if column.type is MONO:
            clock = np.broadcast_to(np.asarray(wall_offset_ns, np.int64), values.shape)
            arrays.append(pa.array(values.view("i8") + clock))
            arrays.append(pa.array(np.ascontiguousarray(clock)))
        else:
            arrays.append(_convert(column, values))
    return pa.Table.from_arrays(arrays, schema=table.arrow_schema)


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


def _distinct(
    values: npt.NDArray[Any], stored: Callable[[npt.NDArray[Any]], pa.Array[Any]]
) -> tuple[pa.Array[Any], list[Any]]:
    """Return the place of each value among the distinct ones, and these.

    Args:
        values: the values, contiguous.
        stored: makes the Arrow array of some.
    """
    # Rows are sorted so that equal values meet, and to see that takes a tenth of the time.
    starts = _starts_of_runs(values)
    if 4 * len(starts) > len(values):
        encoded = stored(values).dictionary_encode()
        return encoded.indices, encoded.dictionary.to_pylist()
    encoded = stored(values[starts]).dictionary_encode()
    lengths = np.diff(starts, append=len(values))
    return pa.array(np.repeat(encoded.indices.to_numpy(), lengths)), encoded.dictionary.to_pylist()


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
    indices, distinct = _distinct(values, _plain_text)
    names = [raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for raw in distinct]
    return _dictionary(indices, [name or None for name in names])


def _flags(values: npt.NDArray[Any]) -> pa.Array[Any]:
    indices, distinct = _distinct(values, pa.array)
    return _dictionary(indices, [FLAG_TEXT[value] for value in distinct])


def _enum(column: Column, values: npt.NDArray[Any]) -> pa.Array[Any]:
    names: Mapping[int, str] = column.enum.values if column.enum else {}
    indices, distinct = _distinct(values, pa.array)
    texts = [
        None if value == column.null_if else names.get(value, str(value)) for value in distinct
    ]
    return _dictionary(indices, texts)


def _dictionary(indices: pa.Array[Any], texts: list[str | None]) -> pa.Array[Any]:
    """Make a dictionary array of distinct texts; an entry that is None makes its rows null.

    Texts can repeat: the kernel leaves bytes behind the end of a name, and two numbers can have
    the same name.
    """
    keep = list(dict.fromkeys(text for text in texts if text is not None))
    dictionary = pa.array(keep, pa.string())
    if keep == texts:
        return pa.DictionaryArray.from_arrays(indices, dictionary)
    number = {text: i for i, text in enumerate(keep)}
    renumber = np.array([-1 if text is None else number[text] for text in texts], np.int32)
    codes = renumber[indices.to_numpy()]
    mask = codes < 0 if None in texts else None
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=mask), dictionary)


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
