"""The lock that says a recorder is at work in a folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from droptape.format.errors import DroptapeError
from droptape.format.layout import LOCK


class LockedError(DroptapeError):
    """Another recorder is writing to the folder."""


class FolderLock:
    """An exclusive flock on ``recorder.lock``, held until `release` or the end of the process.

    The kernel drops it when the process dies, however it dies. A child made by a bare fork would
    keep it; exec closes it.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock; LockedError when another has it, OSError when there can be none."""
        self._path = folder / LOCK
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._fd = os.open(self._path, flags, 0o640)
            try:
                self._take(self._fd)
            except BaseException:
                os.close(self._fd)
                raise
            if self.intact():
                return
            os.close(self._fd)  # who had it before removed it: nobody would find it locked

    def _take(self, lock: int) -> None:
        # Whoever asks `layout.being_recorded` holds a shared lock for a moment.
        for attempt in range(5):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.01 * attempt)
        raise LockedError(f"{self._path.parent} is being recorded to by a running droptape-record")

    def intact(self) -> bool:
        """Say whether the folder still has this lock."""
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # the disk does not tell now

    def renew(self) -> bool:
        """Make the lock anew when somebody deleted only it; False when it cannot be had."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            made = os.open(self._path, flags, 0o640)
        except OSError:
            return False
        try:
            self._take(made)
        except LockedError:  # somebody was quicker: it is theirs now
            os.close(made)
            return False
        os.close(self._fd)
        self._fd = made
        return self.intact()

    def release(self) -> None:
        """Remove the lock."""
        if self._fd < 0:
            return
        try:
            if self.intact():
                self._path.unlink()
        except OSError:
            pass  # Without the lock on it the file says nothing.
        finally:
            os.close(self._fd)
            self._fd = -1
