"""Writing a mark into a recording that another process is making.

Each mark is a sealed file of its own in the table `marks`: it appears whole or not at all, and the
recorder does not have to do anything. A lock on the folder of the table gives each its number.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from droptape.format.decode import rows_to_arrow
from droptape.format.errors import DroptapeError, FormatError
from droptape.format.layout import LOCK, MANIFEST, being_recorded, is_recording, segments, stem
from droptape.format.manifest import Manifest
from droptape.format.tables import MARKS

from .segment import SegmentFile

MAX_TEXT = 1000
"""Characters of a mark."""
MAX_MARKS = 10_000
"""Marks of a recording: each is a file."""
_PATIENCE_S = 30.0


class MarkError(DroptapeError):
    """The mark was not set."""


def mark(recording: Path, text: str, when_ns: int) -> None:
    """Write `text` into a recording that is being made.

    Args:
        recording: its folder.
        text: one line.
        when_ns: the time of the mark, UTC in ns since 1970.

    Raises:
        MarkError: it is no recording, it has ended, or it may not be written to.
    """
    text = text.strip()
    if not text or not text.isprintable():
        raise MarkError("a mark is one line of text")
    if len(text) > MAX_TEXT:
        raise MarkError(f"a mark has at most {MAX_TEXT} characters, this one has {len(text)}")
    user = _user()
    try:
        _require_running(recording)
        found = recording.stat()
        with _as_owner(found):
            folder = recording / MARKS.name
            mode = stat.S_IMODE(found.st_mode)
            try:
                folder.mkdir(mode=mode)
                folder.chmod(mode)  # whoever may write the recording may add marks: no umask
            except FileExistsError:
                pass
            with _locked(folder):
                _write(recording, folder, text, when_ns, user)
    except OSError as exc:
        raise MarkError(f"{recording} cannot be marked: {exc.strerror or exc}") from exc


def _require_running(recording: Path) -> None:
    if not recording.exists():
        raise MarkError(f"{recording} does not exist")
    if not is_recording(recording):
        raise MarkError(f"{recording} is not a recording: it has no {MANIFEST}")
    try:
        manifest = Manifest.read(recording)
    except FormatError as exc:
        raise MarkError(str(exc)) from exc
    # Without the right to open the lock one cannot tell; then the manifest's word counts.
    readable = os.access(recording / LOCK, os.R_OK) or not (recording / LOCK).exists()
    if manifest.state != "recording" or (readable and not being_recorded(recording)):
        raise MarkError(f"{recording} is not being recorded to any more")


@contextmanager
def _as_owner(recording: os.stat_result) -> Iterator[None]:
    """Be the owner of the recording, and no longer root, in this block.

    Its owner can put links where root would write, and has to be able to read the mark.
    """
    if os.geteuid() != 0 or recording.st_uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(recording.st_gid)
    os.seteuid(recording.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise MarkError(f"{folder} is locked by another --mark") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _write(recording: Path, folder: Path, text: str, when_ns: int, user: str) -> None:
    existing = segments(recording, MARKS.name)
    if len(existing) >= MAX_MARKS:
        raise MarkError(f"{recording} has {MAX_MARKS:,} marks already")
    sequence = existing[-1].sequence + 1 if existing else 1
    row = {"ts": when_ns, "text": text, "source": user}
    with SegmentFile(MARKS, folder / f"{stem(sequence, when_ns)}.parquet", 1) as file:
        file.write(rows_to_arrow(MARKS, [row]))
        file.finish()


def _user() -> str:
    """Return who runs this, and not root where sudo says for whom."""
    name = os.environ.get("SUDO_USER", "") if os.geteuid() == 0 else ""
    if name and len(name) <= 64 and name.isprintable():
        return name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
