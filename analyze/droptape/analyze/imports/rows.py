"""One row of an imported table, and reading the files it comes from."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from droptape.analyze.errors import DroptapeError

MAX_LINE = 1 << 20
"""Bytes of a line."""
_MAX_MS = 1e12
_MAX_NS = (1 << 62) - 1
_GZIP = b"\x1f\x8b"


class ImportFileError(DroptapeError):
    """A file is not what it was said to be; the text names the line."""


class Request(NamedTuple):
    """A request, or several together. Times are ns since 1970 (UTC); latencies milliseconds."""

    ts: int
    seconds: float = 0.0
    requests: int = 1
    failed: int = 0
    latency_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    status: int | None = None
    label: str | None = None


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, one in memory at a time."""
    number = 0
    try:
        with path.open("rb") as file:
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if number == 1 and raw.startswith(_GZIP):
                    raise ImportFileError(f"{path} is compressed: gunzip it first")
                if len(raw) > MAX_LINE:
                    raise wrong(path, number, "a line of more than 1 MiB")
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise wrong(path, number, "not UTF-8 text") from None
    except OSError as exc:
        raise ImportFileError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields by name of each row of a CSV file with a head."""
    reader = csv.reader(lines(path), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if not head or len(set(head)) != len(head):
            raise wrong(path, 1, "no head of column names, each once")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(head):
                raise wrong(
                    path, reader.line_num, f"{len(fields)} fields, the head has {len(head)}"
                )
            yield reader.line_num, dict(zip(head, fields, strict=True))
    except csv.Error as exc:
        raise wrong(path, reader.line_num, str(exc)) from exc


def wrong(path: Path, line: int, what: str) -> ImportFileError:
    """Return the error for a line."""
    return ImportFileError(f"{path}, line {line}: {what}")


def number(path: Path, line: int, name: str, text: object) -> float:
    """Read a number that is not negative, infinite or NaN."""
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf or isinstance(text, bool):
        raise wrong(path, line, f"{name} is {str(text)[:40]!r}, not a number of 0 or more")
    return value


def latency(path: Path, line: int, name: str, text: object, factor: float) -> float:
    """Read a latency; `factor` makes milliseconds of it."""
    value = number(path, line, name, text) * factor
    if value > _MAX_MS:
        raise wrong(path, line, f"{name} is {str(text)[:40]!r}, which is no latency")
    return value


def instant(path: Path, line: int, value: float) -> int:
    """Round to whole ns; an error for times that no clock shows."""
    if not 0 <= value <= _MAX_NS:
        raise wrong(path, line, "the time is before 1970 or after 2116")
    return round(value)


def status_of(fields: Mapping[str, str], name: str) -> int | None:
    """Read an HTTP status; None when it is none."""
    text = fields.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None
