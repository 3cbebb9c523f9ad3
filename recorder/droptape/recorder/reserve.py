"""Room on the disk that is kept for the end of a recording.

What a full disk cost is told by the last totals, the losses and the manifest: there must be room
for them when there is none for anything else.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from droptape.format.journal import write_all

PATTERN = ".reserve*"
_FILES = {".reserve": 256 << 10, ".reserve-manifest": 256 << 10}
"""Bytes for the last rows, and for the manifest: a recording of weeks has one of so many."""
_LEAST = 128 << 10
"""For the manifest where there is not so much room: that of a short recording fits."""


class Reserve:
    """Two files of no use that take up room, and two of the disk's inodes.

    Room is given up by removing one: Btrfs cuts no file off where a quota is used up.

    Attributes:
        bytes: their size; 0 where there are none.
    """

    def __init__(self, folder: Path) -> None:
        """Make them, that for the manifest first; where that cannot be, go without."""
        self._paths = [folder / name for name in _FILES]
        rows, manifest = self._paths
        room = _free(folder) / 2  # the rest of a small disk is for rows
        sizes = [size for size in (_FILES[manifest.name], _LEAST) if size <= room]
        self.bytes = self._make(manifest, *sizes) + self._make(rows, _FILES[rows.name])

    def _make(self, path: Path, *sizes: int) -> int:
        """Make a file of the first of `sizes` that there is room for, and return which; or 0."""
        for size in sizes:
            try:
                _allocate(path, size)
            except OSError:
                self._remove([path])
            else:
                return size
        return 0

    def shrink(self) -> None:
        """Give up all but the room for the manifest."""
        self._remove(self._paths[:-1])

    def release(self) -> None:
        """Give it up."""
        self._remove(self._paths)
        self.bytes = 0

    @staticmethod
    def _remove(paths: list[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()


def _free(folder: Path) -> float:
    """Return the bytes that the disk of `folder` has left; without end where it does not tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return math.inf
    return found.f_bavail * found.f_frsize


def _allocate(path: Path, size: int) -> None:
    """Make a file that takes `size` bytes of the disk; OSError when it cannot be."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        # Not posix_fallocate(3): where files are copied on write it may keep nothing, and where
        # they are compressed zeros take no room.
        write_all(fd, os.urandom(size))
    finally:
        os.close(fd)
