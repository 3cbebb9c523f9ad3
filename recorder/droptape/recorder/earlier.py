"""`--keep-recordings`: the oldest of the finished recordings beside a new one go.

A service makes a recording at each start, and the disk budget is for one. What goes was recorded
with this option itself, and has the name that the recorder gave it: who wants to keep one renames
or moves it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from droptape.format.errors import DroptapeError
from droptape.format.layout import MANIFEST, is_recording
from droptape.format.manifest import Manifest

from .lock import FolderLock
from .recovery import of_this_host

_NAME = re.compile(r"droptape-.+-\d{8}T\d{6}Z")  # cli.py


@dataclass(frozen=True, slots=True)
class _Finished:
    folder: Path
    started_ns: int
    bytes: int


def remove_earlier(parent: Path, keep_bytes: int, own: Path) -> list[str]:
    """Remove the oldest recordings in `parent` until the finished ones have at most `keep_bytes`.

    Only those count and go that this user made on this host with the option, recorder gone.

    Args:
        parent: the folder that holds them.
        keep_bytes: how much they may take together, `own` not counted.
        own: the recording that is being made.

    Returns:
        One sentence for each that was removed, or could not be.
    """
    said: list[str] = []
    try:
        folders = [folder for folder in parent.iterdir() if folder.name != own.name]
    except OSError as exc:
        return [f"{parent} was not searched for earlier recordings: {exc.strerror}"]
    found = sorted(filter(None, map(_finished, folders)), key=lambda one: one.started_ns)
    total = sum(one.bytes for one in found)
    for one in found:
        if total <= keep_bytes:
            break
        try:
            removed = _remove(one.folder)
        except (OSError, DroptapeError) as exc:
            said.append(f"{one.folder}, an earlier recording, was not removed: {exc}")
            continue
        if removed:
            total -= one.bytes
            said.append(
                f"{one.folder} was removed: earlier recordings would take more than "
                f"{keep_bytes / 1e6:,.0f} MB (--keep-recordings)"
            )
    return said


def _finished(folder: Path) -> _Finished | None:
    """Describe a recording that may go; None for anything else."""
    try:
        known = folder.lstat()
        if not (_NAME.fullmatch(folder.name) and stat.S_ISDIR(known.st_mode)):
            return None
        if known.st_uid != os.geteuid() or not is_recording(folder):
            return None
        manifest = Manifest.read(folder)
        if not _may_go(manifest):
            return None
        return _Finished(folder, manifest.started_ns, _size(folder))
    except (OSError, DroptapeError):
        return None


def _may_go(manifest: Manifest) -> bool:
    kept = manifest.options.get("keep_recordings")
    return type(kept) is int and manifest.state != "recording" and of_this_host(manifest.host)


def _size(folder: Path) -> int:
    """Return the bytes of all files in `folder`, without following links."""
    return sum(Path(at, name).lstat().st_size for at, _, names in os.walk(folder) for name in names)


def _remove(folder: Path) -> bool:
    """Remove a recording; False when it changed meanwhile. OSError and DroptapeError come out.

    The manifest goes last: after a kill in the midst of it the next recorder goes on.
    """
    lock = FolderLock(folder)
    try:
        if not _may_go(Manifest.read(folder)):
            return False
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MANIFEST:
                path.unlink()
        (folder / MANIFEST).unlink()
        folder.rmdir()
    finally:
        lock.release()
    return True
