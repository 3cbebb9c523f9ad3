"""Names of the files in a recording, and finding them.

::

    recording.json                          the manifest (manifest.py)
    recorder.lock                           locked (flock) while a recorder writes
    <table>/<sequence>-<start>.parquet      a sealed segment
    <table>/<sequence>-<start>.journal      a segment that is not sealed yet (journal.py)
    marks/, imported_<name>/                tables that others add, while it runs or later: the
                                            manifest does not list their files

`sequence` has six digits and counts from 1 in each table; `start` is UTC as YYYYMMDDTHHMMSSZ.
Names that start with a dot are being written and do not count. When a journal and a sealed file
have the same sequence, the sealed file is whole and the journal is about to be removed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

MANIFEST = "recording.json"
LOCK = "recorder.lock"
IMPORTED = "imported_"
"""What the name of an imported table begins with."""
_NAME = re.compile(r"(\d{6,})-(\d{8}T\d{6}Z)\.(parquet|journal)")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; OSError when it is none: a pipe would be waited for without an end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """Return what is in a file; OSError as in `open_regular`."""
    with open_regular(path) as file:
        return file.read()


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment of one table on disk."""

    path: Path
    table: str
    sequence: int
    sealed: bool


def stem(sequence: int, start_ns: int) -> str:
    """Return the file name, without its ending, of a segment that starts at `start_ns` (UTC)."""
    start = datetime.fromtimestamp(start_ns // 1_000_000_000, timezone.utc)
    return f"{sequence:06d}-{start:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one table.

    Attributes:
        segments: oldest first, each sequence once.
        strays: files that no recorder leaves: with another name, or a second one of a sequence.
    """

    segments: list[SegmentFile]
    strays: list[Path]


def listing(recording: Path, table: str, listed: Container[str] = ()) -> Listing:
    """List the files of `table`; of two sealed ones of a sequence the one in `listed` counts.

    Args:
        recording: its folder.
        table: the folder in it.
        listed: the files that the manifest lists, each as ``<table>/<name>``.
    """
    found: dict[int, list[SegmentFile]] = {}
    strays: list[Path] = []
    folder = recording / table

    def rank(file: SegmentFile) -> tuple[bool, bool]:
        return file.sealed, f"{table}/{file.path.name}" in listed

    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is None:
            if path.suffix in (".parquet", ".journal") and path.name[0] != ".":
                strays.append(path)
            continue
        file = SegmentFile(path, table, int(match[1]), match[3] == "parquet")
        found.setdefault(file.sequence, []).append(file)
    best = [max(found[sequence], key=rank) for sequence in sorted(found)]
    for one in best:
        # A journal stays beside what it became until the manifest has that.
        strays += [
            other.path
            for other in found[one.sequence]
            if other is not one and (other.sealed or other.path.stem != one.path.stem)
        ]
    return Listing(best, strays)


def segments(recording: Path, table: str) -> list[SegmentFile]:
    """List the segments of `table`, oldest first; each sequence once."""
    return listing(recording, table).segments


def sequence_of(file: str) -> int:
    """Return the number in the name of a segment; 0 when it is none."""
    match = _NAME.fullmatch(file.rpartition("/")[2])
    return int(match[1]) if match else 0


def added_later(table: str) -> bool:
    """Say whether files of `table` may be there that the manifest does not list."""
    return table == "marks" or table.startswith(IMPORTED)


def is_recording(path: Path) -> bool:
    """Say whether `path` is a recording's folder; False where that may not be looked at."""
    try:
        return (path / MANIFEST).is_file()
    except OSError:
        return False


def is_closed(path: Path) -> bool:
    """Say whether `path` is a folder that this user may not look into."""
    try:
        (path / MANIFEST).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def being_recorded(recording: Path) -> bool:
    """Say whether a recorder on this host is writing to `recording` now."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with open_regular(recording / LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError:
        return False
    return False
