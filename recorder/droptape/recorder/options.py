"""What a recording is asked to do, and the spelling of sizes and durations."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from droptape.format.errors import DroptapeError


class UsageError(DroptapeError):
    """The command line asks for something that cannot be done."""


def parse_btf(text: str) -> Path:
    """Return the path of a file; UsageError when it is none, as what is read may never end."""
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"{text!r} is no name of a file") from exc
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is no regular file: --btf takes one that has the kernel's BTF")
    return path


MAX_RATE = 10_000
"""The default of `Options.max_rate`.

No host that works has as many events of one cause. A flood of a million per second becomes some
40,000 rows: 0.4 MB, and a tenth of a processor. Up to there, every event has its row.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """One recording's options.

    Attributes:
        output: the folder to make.
        events: event kinds to record.
        duration_s: stop after so many seconds; None for no limit.
        rotate_bytes: seal a segment when its journal has this size.
        rotate_s: seal a segment when it is this old, in seconds.
        disk_budget: remove the oldest segments to stay below so many bytes; None for no limit.
        keep_recordings: bytes that earlier recordings beside this one may take, the oldest go; None
            to leave them alone.
        live: print events as they come.
        max_rate: rows of one key of the totals, per second and processor, above which they are
            sampled; 0 for no limit.
        include_benign: also record rows for drops that are part of normal operation.
        track_io: watch every message to know who uses a socket.
        command: run this, and record while it runs; empty for none.
        group: the group that may read the recording; None for this process's, or the caller of
            sudo's.
        ready_fd: write ``ready`` there when the probes are live.
        btf: the kernel's BTF, if not its own.
    """

    output: Path
    events: tuple[str, ...]
    duration_s: float | None = None
    rotate_bytes: int = 64 << 20
    rotate_s: float = 60.0
    disk_budget: int | None = None
    keep_recordings: int | None = None
    live: bool = False
    max_rate: int = MAX_RATE
    include_benign: bool = False
    track_io: bool = False
    command: tuple[str, ...] = ()
    group: str | None = None
    ready_fd: int | None = None
    btf: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what belongs into the manifest: no paths and no arguments of the command."""
        plain = asdict(self)
        del plain["output"], plain["ready_fd"]
        plain["btf"] = self.btf is not None
        plain["command"] = Path(self.command[0]).name if self.command else ""
        return plain


LEAST_BUDGET = 16 << 20
"""Bytes: the dictionaries alone take a few megabytes."""
_LONGEST_S, _LARGEST = 1000 * 86400.0, 1 << 50
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_duration(text: str) -> float:
    """Read a time span such as 90, 90s, 10m or 1h30m; return seconds. UsageError otherwise."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
    else:
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise UsageError(f"{text!r} is not a duration: write 30s, 10m or 1h30m")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise UsageError(f"{text!r} is not a duration: it has to be more than 0")
    if seconds > _LONGEST_S:
        raise UsageError(f"{text[:20]!r} is too long for a duration: 1000d is the longest")
    return seconds


def parse_size(text: str) -> int:
    """Read a size such as 64MB, 1GiB or 512k; return bytes. UsageError otherwise.

    MB and MiB are both 1,048,576 bytes.
    """
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * 1024 ** _POWERS[match[2].lower()] if match else 0
    if not 1 <= size <= _LARGEST:
        raise UsageError(f"{text[:20]!r} is not a size: write 64MB or 1GB")
    return int(size)


def parse_budget(text: str) -> int:
    """Read the size of a disk budget; return bytes. UsageError when it is too small."""
    size = parse_size(text)
    if size < LEAST_BUDGET:
        raise UsageError(f"a disk budget of {text} is too small: it has to be 16MB or more")
    return size


def parse_rate(text: str) -> int:
    """Read a number of rows per second, 0 for no limit; UsageError otherwise."""
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 30:
        raise UsageError(f"{text[:20]!r} is not a number of rows: write 1000, or 0 for no limit")
    return int(text)


def parse_descriptor(number: int) -> int:
    """Return `number` if it is an open descriptor; UsageError otherwise.

    A command does not inherit it: who waits at its other end would wait for the command too.
    """
    try:
        os.fstat(number)
        if number > 2:
            os.set_inheritable(number, False)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"no file is open at descriptor {number} (--ready-fd)") from exc
    return number


def parse_events(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of event kinds, separated by commas; UsageError names an unknown one."""
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in wanted:
        if name not in known:
            raise UsageError(f"unknown event kind {name!r}: known are {', '.join(known)}")
    if not wanted:
        raise UsageError(f"no event kind given: known are {', '.join(known)}")
    return wanted
