"""What wrk and wrk2 print, or write from a script's ``done`` function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .forms import Options, begun
from .rows import ImportFileError, Request, instant, latency, lines, number, records

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_DURATION = r"(\d+(?:\.\d+)?)(us|ms|s|m|h)"
_RUNNING = re.compile(rf"Running {_DURATION} test @ (\S+)")
_LATENCY = re.compile(rf"\s+Latency\s+{_DURATION}\s+\S+\s+{_DURATION}\s+\S+")
_PERCENTILE = re.compile(rf"\s+(\d+(?:\.\d+)?)%\s+{_DURATION}\s*")
_TOTAL = re.compile(rf"\s+(\d+) requests in {_DURATION}, \S+ read")
_ERRORS = re.compile(r"\s+Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_STATUS = re.compile(r"\s+Non-2xx or 3xx responses: (\d+)")
_MOST = 10_000


def wrk(path: Path, options: Options) -> Iterator[Request]:
    """Read what wrk prints, or a CSV of the names in its ``summary`` and ``latency`` (us).

    Either is about the whole run, so it gives one row for each run, at its start.
    """
    start = begun(path, options)
    first = next(iter(lines(path)), "")
    if "," in first and not first.startswith(("Running", " ")):
        yield from _written(path, start)
    else:
        yield _printed(path, start)


def _ms(amount: str, unit: str) -> float:
    return float(amount) * _UNITS[unit]


def _printed(path: Path, start: int) -> Request:
    values: dict[str, float] = {}
    label, requests, seconds, failed = None, None, 0.0, 0
    for number_of_line, line in enumerate(lines(path)):
        if number_of_line > _MOST:
            raise ImportFileError(f"{path} is not what wrk prints: it is too long")
        if match := _RUNNING.match(line):
            label = match[3]
        elif match := _LATENCY.match(line):
            values["mean"], values["max"] = _ms(match[1], match[2]), _ms(match[3], match[4])
        elif match := _PERCENTILE.fullmatch(line):
            values.setdefault(f"{float(match[1]):g}", _ms(match[2], match[3]))
        elif match := _TOTAL.match(line):
            requests, seconds = int(match[1][:18]), _ms(match[2], match[3]) / 1000
        elif match := _ERRORS.match(line):
            failed += sum(int(match[n][:18]) for n in (1, 2, 3, 4))
        elif match := _STATUS.match(line):
            failed += int(match[1][:18])
    if requests is None:
        raise ImportFileError(f"{path} is not what wrk prints: no line '… requests in …'")
    if max(requests, failed) > 1e15 or max(seconds, *values.values(), 0) > 1e12:
        raise ImportFileError(f"{path} is not what wrk prints: the numbers are too large")
    return Request(
        start, seconds, requests, failed, values.get("mean"), values.get("50"), values.get("90"),
        values.get("99"), values.get("max"), None, label,
    )  # fmt: skip


def _written(path: Path, start: int) -> Iterator[Request]:
    for line, row in records(path):
        fields = {name.lower().replace("latency.", "").replace("latency_", ""): text
                  for name, text in row.items()}  # fmt: skip
        if not {"duration", "requests"} <= set(fields):
            raise ImportFileError(
                f"{path} is not a wrk summary: a CSV needs duration and requests (microseconds), "
                "and may have mean, max, p50, p90, p99, connect, read, write, status, timeout"
            )
        seconds = number(path, line, "duration", fields["duration"]) / 1e6
        shown = {
            name: latency(path, line, name, fields[name], 0.001)
            for name in ("mean", "p50", "p90", "p99", "max")
            if fields.get(name, "").strip()
        }
        failed = sum(
            number(path, line, name, fields[name])
            for name in ("connect", "read", "write", "status", "timeout")
            if fields.get(name, "").strip()
        )
        requests = number(path, line, "requests", fields["requests"])
        if max(requests, failed) > 1e15:
            raise ImportFileError(f"{path}, line {line}: more requests than there can be")
        yield Request(
            instant(path, line, start), seconds, round(requests), round(failed),
            shown.get("mean"), shown.get("p50"), shown.get("p90"), shown.get("p99"),
            shown.get("max"),
        )  # fmt: skip
        start = instant(path, line, start + seconds * 1e9)
