"""One value as text or JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_PLAIN_SECONDS = 60_000_000_000
"""About 1,900 years before and after 1970."""
_INFINITE_TIME, _INFINITE_DAY = (1 << 63) - 1, (1 << 31) - 1
"""What DuckDB stands for infinity, with either sign."""


def json_value(value: Any) -> Any:
    """Return `value` as what JSON knows: bytes as hexadecimal, times as text, no NaN.

    A decimal that a reader of JSON would get with other digits is text as well.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        digits = _digits(value)
        near = float(value)
        whole = "." not in digits
        return int(digits) if whole else near if decimal.Decimal(repr(near)) == value else digits
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, pa.MonthDayNano):
        return interval_text(value)
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return str(value)


def interval_text(value: Any) -> str:
    """Return an interval as months, days and seconds, such as ``2 days 1.5 s``."""
    parts = [_count(value.months, "month")] if value.months else []
    parts += [_count(value.days, "day")] if value.days else []
    if value.nanoseconds or not parts:
        parts.append(f"{_digits(decimal.Decimal(value.nanoseconds).scaleb(-9))} s")
    return " ".join(parts)


def python_values(column: pa.Array[Any]) -> list[Any]:
    """Return the values of an array; dates and timestamps as ISO 8601 text, in UTC.

    Python has no nanoseconds, no infinity, and no years but 1 to 9999; DuckDB has.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return python_values(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        return [None if text is None else _iso(text) for text in _times(column, short=False)]
    if pa.types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32()).to_pylist()
        return [None if day is None else _day(day) for day in days]
    if not _holds_times(kind):
        return list(column.to_pylist())
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        rows = zip(*map(python_values, column.flatten()), strict=True)
        present = column.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if there else None
            for row, there in zip(rows, present, strict=True)
        ]
    lists = [None if one.values is None else python_values(one.values) for one in column]
    if pa.types.is_map(kind):
        return [None if one is None else [tuple(pair.values()) for pair in one] for one in lists]
    return lists


def _holds_times(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return any(_holds_times(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def text_columns(
    column: pa.Array[Any], *, iso: bool = False, short: bool = False, rounded: bool = False
) -> list[str | None]:
    """Return the values of a column as text; None stays None.

    Args:
        column: any Arrow array.
        iso: times as ISO 8601 with T and Z.
        short: for people: times without digits that are zero in the whole column.
        rounded: for a terminal: numbers with six digits after the point.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        texts = _times(column, short)
        return [None if t is None else _iso(t) for t in texts] if iso else texts
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(column.to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(pc.cast(column, pa.string()).to_pylist())
    values = python_values(column)
    if rounded and pa.types.is_floating(kind):
        values = [None if value is None else round(value, 6) for value in values]
    return [None if value is None else _text(value) for value in values]


def _times(column: pa.Array[Any], short: bool) -> list[str | None]:
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))  # the instant in UTC
    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    numbers = column.cast(pa.int64())
    edges = pc.min_max(numbers).as_py()
    if edges["min"] is not None and max(-edges["min"], edges["max"]) > _plain_until(column.type):
        unit = column.type.unit
        texts = [None if n is None else _far_time(n, unit) for n in numbers.to_pylist()]
    if short:
        for digits in (3, 3, 4):  # from ns to us to ms to s (with the point)
            zeros = ("." if digits == 4 else "") + "000"
            present = [t for t in texts if t is not None]
            if not present or not all("." in t and t.endswith(zeros) for t in present):
                break
            texts = [None if t is None else t[:-digits] for t in texts]
    return texts


def _plain_until(kind: pa.TimestampType[Any, Any]) -> int:
    """Return the first number, of either sign, that Arrow may not write as people do."""
    return min(_PER_SECOND[kind.unit] * _PLAIN_SECONDS, _INFINITE_TIME - 1)


def _far_time(number: int, unit: str) -> str:
    if abs(number) >= _INFINITE_TIME:
        return "infinity" if number > 0 else "-infinity"
    seconds, fraction = divmod(number, _PER_SECOND[unit])
    days, second = divmod(seconds, 86_400)
    digits = len(str(_PER_SECOND[unit])) - 1
    point = f".{fraction:0{digits}d}" if digits else ""
    return f"{_day(days)} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{point}"


def _day(days: int) -> str:
    """Return a date, days since 1970; the calendar repeats itself after 400 years."""
    if abs(days) == _INFINITE_DAY:
        return "infinity" if days > 0 else "-infinity"
    cycles, rest = divmod(days + datetime.date(1970, 1, 1).toordinal() - 1, 146_097)
    day = datetime.date.fromordinal(rest + 1)
    year = day.year + 400 * cycles
    return f"{year:0{4 + (year < 0)}d}-{day:%m-%d}"


def _iso(text: str) -> str:
    return text if text.endswith("infinity") else text.replace(" ", "T") + "Z"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return _digits(value)
    plain = json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _digits(value: decimal.Decimal) -> str:
    """Return all digits of a finite number, but no zeros at its end after the point."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if abs(number) == 1 else f"{number} {noun}s"
