"""Room on the disk that is kept for the end of a recording.

What a full disk cost is told by the last totals, the losses and the manifest: there must be room
for them when there is none for anything else.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from droptape.format.journal import write_all

NAME = ".reserve"
_BYTES = 512 << 10
_LAST = 256 << 10
"""Of these, what is for the manifest: a recording of weeks has one of so many bytes."""


class Reserve:
    """A file of no use that takes up room, and one of the disk's inodes.

    Attributes:
        bytes: its size; 0 where there is none.
    """

    def __init__(self, folder: Path) -> None:
        """Make it; where that cannot be, the recording goes without."""
        self._path = folder / NAME
        self.bytes = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self._path, flags, 0o640)
        except OSError:
            return
        try:
            try:
                # Not posix_fallocate(3): where files are copied on write it may keep nothing, and
                # where they are compressed zeros take no room.
                write_all(fd, os.urandom(_BYTES))
            finally:
                os.close(fd)
            self.bytes = _BYTES
        except OSError:
            self.release()

    def shrink(self) -> None:
        """Give up all but the room for the manifest."""
        with contextlib.suppress(OSError):
            os.truncate(self._path, _LAST)

    def release(self) -> None:
        """Give it up."""
        with contextlib.suppress(OSError):
            self._path.unlink()
