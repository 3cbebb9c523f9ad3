"""One value as text or JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def json_value(value: Any) -> Any:
    """Return `value` as what JSON knows: bytes as hexadecimal, times as text, no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
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
        parts.append(f"{value.nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".") + " s")
    return " ".join(parts)


def text_columns(
    column: pa.Array[Any], *, iso: bool = False, short: bool = False
) -> list[str | None]:
    """Return the values of a column as text; None stays None.

    Args:
        column: any Arrow array.
        iso: times as ISO 8601 with T and Z.
        short: for people: times without digits that are zero in the whole column.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        texts = _times(column, short)
        return [None if t is None else t.replace(" ", "T") + "Z" for t in texts] if iso else texts
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(column.to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(pc.cast(column, pa.string()).to_pylist())
    return [None if value is None else _text(value) for value in column.to_pylist()]


def _times(column: pa.Array[Any], short: bool) -> list[str | None]:
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))  # the instant in UTC
    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    if short:
        for digits in (3, 3, 4):  # from ns to us to ms to s (with the point)
            zeros = ("." if digits == 4 else "") + "000"
            present = [t for t in texts if t is not None]
            if not present or not all("." in t and t.endswith(zeros) for t in present):
                break
            texts = [None if t is None else t[:-digits] for t in texts]
    return texts


def _text(value: Any) -> str:
    if isinstance(value, float):
        return repr(round(value, 6)) if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    plain = json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if abs(number) == 1 else f"{number} {noun}s"
