"""The formats, one function each: a file in, `Request` rows out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from droptape.analyze.errors import QueryError
from droptape.analyze.times import Landmarks
from droptape.analyze.times import instant as parse_instant

from .rows import (
    ImportFileError,
    Request,
    instant,
    latency,
    lines,
    number,
    records,
    status_of,
    wrong,
)

_SECOND = 1_000_000_000
_TO_MS = {"s": 1000.0, "ms": 1.0, "us": 0.001, "ns": 0.000001}


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said of a file.

    Attributes:
        start: when the load began, ns since 1970; None when not known.
        time: the column of times, for csv.
        latency: the column of latencies, for csv.
        unit: of the latencies, for csv: s, ms, us, ns; None: as the column's name says, else ms.
    """

    start: int | None = None
    time: str | None = None
    latency: str | None = None
    unit: str | None = None


def begun(path: Path, options: Options) -> int:
    """Return when the load began; an error when that was not said."""
    if options.start is None:
        raise ImportFileError(
            f"{path} counts from its own start: say when that was with --start "
            "(UTC, +10s since the recording began, or mark:TEXT)"
        )
    return options.start


def hey(path: Path, options: Options) -> Iterator[Request]:
    """Read ``hey -o csv``: a row for each request, times from the start of the load."""
    start = begun(path, options)
    for line, row in records(path):
        if "response-time" not in row or "offset" not in row:
            raise wrong(path, 1, "not what `hey -o csv` writes: no response-time and offset")
        status = status_of(row, "status-code")
        offset = number(path, line, "offset", row["offset"])
        yield Request(
            instant(path, line, start + round(offset * _SECOND)),
            failed=int(status is None or status >= 400),
            latency_ms=latency(path, line, "response-time", row["response-time"], 1000),
            status=status,
        )


_K6_METRICS = {"http_req_duration", "grpc_req_duration"}


def k6(path: Path, options: Options) -> Iterator[Request]:
    """Read ``k6 run --out csv=FILE`` or ``--out json=FILE``; times are the ends of requests."""
    del options
    first = next(iter(lines(path)), "")
    if first.lstrip().startswith("{"):
        yield from _k6_json(path)
    else:
        yield from _k6_csv(path)


def _k6_csv(path: Path) -> Iterator[Request]:
    for line, row in records(path):
        if not {"metric_name", "timestamp", "metric_value"} <= set(row):
            raise wrong(path, 1, "not what `k6 --out csv` writes: no metric_name")
        if row["metric_name"] in _K6_METRICS:
            when = _when(path, line, row["timestamp"], None)
            yield _k6_request(path, line, when, row["metric_value"], row)


def _k6_json(path: Path) -> Iterator[Request]:
    for line, text in enumerate(lines(path), 1):
        try:
            point = json.loads(text)
        except (ValueError, RecursionError):
            raise wrong(path, line, "not JSON") from None
        if not isinstance(point, dict) or "type" not in point:
            raise wrong(path, line, "not what `k6 --out json` writes: no type")
        if point["type"] != "Point" or point.get("metric") not in _K6_METRICS:
            continue
        data = point.get("data")
        if not isinstance(data, dict):
            raise wrong(path, line, "a Point without data")
        tags = data.get("tags")
        tags = tags if isinstance(tags, dict) else {}
        when = _when(path, line, str(data.get("time")), None)
        named = {key: value for key, value in tags.items() if isinstance(value, str)}
        yield _k6_request(path, line, when, data.get("value"), named)


def _k6_request(
    path: Path, line: int, when: int, value: object, tags: Mapping[str, str]
) -> Request:
    status = status_of(tags, "status")
    bad = status in (None, 0) or (status or 0) >= 400
    expected = tags.get("expected_response", "")
    return Request(
        when,
        failed=int(bad if expected not in ("true", "false") else expected == "false"),
        latency_ms=latency(path, line, "the duration", value, 1),
        status=status,
        label=tags.get("name") or tags.get("url") or None,
    )


def _when(path: Path, line: int, text: str, start: int | None) -> int:
    """Read UTC, numbers since 1970 in s, ms, us or ns, or small numbers as seconds since start."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        if text.lower().startswith(("mark:", "+", "-")):
            raise wrong(path, line, f"{text[:40]!r} is not a time") from None
        try:
            return instant(path, line, parse_instant(text, Landmarks(None, None)))
        except QueryError:
            raise wrong(path, line, f"{text[:40]!r} is not a time") from None
    value = number(path, line, "the time", text)
    if value < 1e8:
        if start is None:
            raise wrong(path, line, "times are since the start of the load: give --start")
        return instant(path, line, start + round(value * _SECOND))
    for below, factor in ((1e11, _SECOND), (1e14, 1e6), (1e17, 1e3)):
        if value < below:
            # Whole digits stay exact where a float of ns would not.
            return instant(
                path, line, int(text) * int(factor) if text.isdigit() else value * factor
            )
    return instant(path, line, int(text) if text.isdigit() else value)


_TIME_NAMES = ("time", "timestamp", "ts", "date", "datetime", "start", "start_time", "offset")
_LATENCY = re.compile(
    r"(latency|response[-_ ]?time|duration|elapsed)(?:[-_ (]*(s|ms|us|ns|sec|seconds)\)?)?",
    re.IGNORECASE,
)
_STATUS_NAMES = ("status", "status_code", "statuscode", "responsecode", "code")
_LABEL_NAMES = ("label", "name", "url", "path")


def table(path: Path, options: Options) -> Iterator[Request]:
    """Read any CSV file with a column of times: of requests, or of intervals with percentiles."""
    chosen: dict[str, str] | None = None
    for line, row in records(path):
        if chosen is None:
            chosen = _columns(path, list(row), options)
            factor = _TO_MS[options.unit or _unit(chosen.get("latency", ""))]
        status = status_of(row, chosen.get("status", ""))
        success = row.get(chosen.get("success", ""), "").strip().lower()
        failed = success == "false" if success in ("true", "false") else (status or 0) >= 400
        values: dict[str, Any] = {"failed": int(failed)}
        for name in ("requests", "failed"):
            if name in chosen and row[chosen[name]].strip():
                value = number(path, line, chosen[name], row[chosen[name]])
                if value > 1e15:
                    raise wrong(path, line, f"{chosen[name]} is too large")
                values[name] = round(value)
        for name in ("latency", "p50", "p90", "p99", "max"):
            if name in chosen and row[chosen[name]].strip():
                scale = factor if name == "latency" else _TO_MS[_unit(chosen[name])]
                values[f"{name}_ms"] = latency(path, line, chosen[name], row[chosen[name]], scale)
        when = _when(path, line, row[chosen["time"]], options.start)
        yield Request(when, status=status, label=row.get(chosen.get("label", "")) or None, **values)


def _columns(path: Path, head: list[str], options: Options) -> dict[str, str]:
    lower = {name.lower(): name for name in reversed(head)}
    found: dict[str, str] = {}
    for role, wanted in (("time", options.time), ("latency", options.latency)):
        if wanted is not None and wanted not in head:
            raise wrong(path, 1, f"there is no column {wanted}; there are: {', '.join(head)[:400]}")
        if wanted is not None:
            found[role] = wanted
    names = {
        "time": _TIME_NAMES, "status": _STATUS_NAMES, "label": _LABEL_NAMES,
        "success": ("success",), "requests": ("requests", "count"), "failed": ("failed", "errors"),
    }  # fmt: skip
    for role, candidates in names.items():
        match = next((lower[name] for name in candidates if name in lower), None)
        if match is not None:
            found.setdefault(role, match)
    for name in ("p50", "p90", "p99", "max"):
        match = next((lower[n] for n in (f"{name}_ms", f"{name}_us", f"{name}_s", name)
                      if n in lower), None)  # fmt: skip
        if match is not None:
            found[name] = match
    matching = (name for name in head if _LATENCY.fullmatch(name))
    found.setdefault("latency", next(matching, ""))
    if not found["latency"]:
        del found["latency"]
    if "time" not in found:
        raise wrong(path, 1, f"no column of times; name it with --time: {', '.join(head)[:400]}")
    if not {"latency", "p50", "p90", "p99", "max", "requests"} & set(found):
        raise wrong(path, 1, f"no column of latencies; name it with --latency: {', '.join(head)}")
    return found


def _unit(name: str) -> str:
    match = _LATENCY.fullmatch(name)
    unit = (match[2] or "ms").lower() if match else name.lower().rpartition("_")[2]
    return {"sec": "s", "seconds": "s"}.get(unit, unit if unit in _TO_MS else "ms")


Reader = Callable[[Path, Options], Iterator[Request]]
