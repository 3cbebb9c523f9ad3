"""Instants as users write them: UTC, offsets from the start, marks. The only parser of them.

2026-11-21T07:53:48Z   UTC; also with a space, without seconds, with +02:00, or only a date
07:53:48               the first such time of day (UTC) since the start; as an end, since `--from`
+30s, +5m              since the start of the recording
-10s                   before its end
mark:deploy            a mark; mark:deploy+5s and mark:deploy-5s are relative to it
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from .durations import DURATION, nanoseconds
from .errors import QueryError

_RELATIVE = re.compile(rf"([+-])\s*({DURATION.pattern}|0)", re.IGNORECASE)
_AFTER_MARK = re.compile(rf"(.+?)\s*([+-])\s*({DURATION.pattern})", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?")
_FRACTION = re.compile(r"(?<=[T ]\d\d:\d\d:\d\d)[.,](\d{1,9})(?!\d)", re.IGNORECASE)
_WITH_FRACTION = re.compile(r"\d+[-:].*[.,].*")
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LIMIT_NS = (1 << 63) - 1
_WAYS = "write UTC (2026-11-21T07:53:48Z or 07:53:48), +30s, -10s or mark:TEXT"


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, ns since 1970 (UTC): from `start` on, before `end`; None is open."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A moment with a name: ns since 1970 (UTC), the text, who set it, in which recording."""

    ts_ns: int
    text: str
    source: str
    recording: str


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What instants can be relative to: start and end of the recordings (ns), and their marks."""

    start: int | None
    end: int | None
    marks: Sequence[Mark] = ()


def window(start: str | int | None, end: str | int | None, landmarks: Landmarks) -> Window | None:
    """Return the span that two instants name, None when both are None.

    Raises:
        QueryError: one is no instant, or the second is not after the first.
    """
    if start is None and end is None:
        return None
    found = Window(
        None if start is None else instant(start, landmarks),
        None if end is None else instant(end, landmarks),
    )
    if isinstance(end, str) and _CLOCK.fullmatch(end.strip()) and found.start is not None:
        found = Window(found.start, _later(end, found, landmarks))
    if found.start is not None and found.end is not None and found.end <= found.start:
        raise QueryError(f"--to {end} is not after --from {start}")
    return found


def _later(end: str, found: Window, landmarks: Landmarks) -> int | None:
    """Return the first such time of day after the start, if the recording was not over then."""
    assert found.start is not None
    if found.end is None or found.end > found.start:
        return found.end
    later = instant(end, replace(landmarks, start=found.start))
    return later if landmarks.end is None or later <= landmarks.end else found.end


def instant(text: str | int, landmarks: Landmarks) -> int:
    """Return the instant that `text` names, ns since 1970 (UTC); a number is one already.

    Raises:
        QueryError: it names none, or none that is known here.
    """
    found = text if isinstance(text, int) else _read(text, landmarks)
    if not -_LIMIT_NS <= found <= _LIMIT_NS:
        raise QueryError(f"{text!r} is too far away: times are from 1678 to 2262")
    return found


def _read(text: str, landmarks: Landmarks) -> int:
    wanted = text.strip()
    if wanted.lower().startswith("mark:"):
        return _marked(wanted[5:].strip(), landmarks.marks)
    relative = _RELATIVE.fullmatch(wanted)
    if relative:
        sign, offset = relative[1], 0 if relative[2] == "0" else nanoseconds(relative[2])
        base = landmarks.start if sign == "+" else landmarks.end
        if base is None:
            edge = "start" if sign == "+" else "end"
            raise QueryError(f"{text!r}: the {edge} of the recording is not known; write UTC")
        return base + offset if sign == "+" else base - offset
    clock = _CLOCK.fullmatch(wanted)
    found = _time_of_day(clock, landmarks.start) if clock else _date(wanted)
    if found is None and _WITH_FRACTION.fullmatch(wanted):
        raise QueryError(
            f"{text!r} is not a time: a fraction is of seconds, and has nine digits at most"
        )
    if found is None or not -_LIMIT_NS <= found <= _LIMIT_NS:
        raise QueryError(f"{text!r} is not a time; {_WAYS}")
    return found


def _date(text: str) -> int | None:
    nanos = 0
    fraction = _FRACTION.search(text)
    if fraction:
        nanos = int(fraction[1].ljust(9, "0"))
        text = text[: fraction.start()] + text[fraction.end() :]
    if "." in text or "," in text:
        return None  # Python would drop digits, or take them for a zone's
    text = re.sub(r"\s*(Z|UTC)$", "+00:00", text, flags=re.IGNORECASE)
    try:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        since = when - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + nanos


def _time_of_day(match: re.Match[str], start: int | None) -> int | None:
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if hour > 23 or minute > 59 or second > 59 or start is None:
        return None
    nanos = int(match[4].ljust(9, "0")) if match[4] else 0
    day = _DAY // timedelta(microseconds=1) * 1000
    of_day = (hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanos
    # A second before the start still is the start, as droptape prints it.
    return start - 1_000_000_000 + (of_day - (start - 1_000_000_000)) % day


def _marked(wanted: str, marks: Sequence[Mark]) -> int:
    found = _matching(wanted, marks)
    if found:
        return _single(wanted, found)
    shifted = _AFTER_MARK.fullmatch(wanted)
    if shifted:
        found = _matching(shifted[1], marks)
        if found:
            offset = nanoseconds(shifted[3])
            return _single(shifted[1], found) + (offset if shifted[2] == "+" else -offset)
    raise QueryError(f"there is no mark {wanted!r}; {_listed(marks)}")


def _matching(wanted: str, marks: Sequence[Mark]) -> list[Mark]:
    """Return marks with this text, else those that contain it, case set aside."""
    exact = [mark for mark in marks if mark.text == wanted]
    lower = wanted.lower()
    return exact or ([mark for mark in marks if lower in mark.text.lower()] if lower else [])


def _single(wanted: str, found: Iterable[Mark]) -> int:
    times = sorted({mark.ts_ns for mark in found})
    if len(times) > 1:
        raise QueryError(f"{len(times)} marks match {wanted!r}: name one more exactly, or its time")
    return times[0]


def _listed(marks: Sequence[Mark]) -> str:
    texts = list(dict.fromkeys(mark.text for mark in marks))
    if not texts:
        return "the recording has no marks"
    more = f" and {len(texts) - 10} more" if len(texts) > 10 else ""
    return f"marks: {', '.join(texts[:10])}{more}"
