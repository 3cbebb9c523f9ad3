"""Durations as users write them."""

from __future__ import annotations

import re

from .errors import QueryError

LONGEST_NS = 106_751 * 86_400_000_000_000
"""What 64 bits hold, in whole days."""
_UNITS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "min": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000,
}  # fmt: skip
DURATION = re.compile(r"\d{1,15}(?:\.\d{1,15})?\s*[a-zA-Z]{1,3}")
_PARTS = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)


def nanoseconds(text: str) -> int:
    """Read a duration such as ``100ms``, ``1s`` or ``5m``; QueryError when it is none."""
    match = _PARTS.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise QueryError(f"{text!r} is not a duration; write 100ms, 1s, 5m or 1h")
    found = float(match[1]) * _UNITS[match[2].lower()]
    if found > LONGEST_NS:
        raise QueryError(f"{text.strip()[:40]!r} is too long: at most 292 years, 106751d")
    return round(found)
