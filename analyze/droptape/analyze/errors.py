"""What `droptape.analyze` raises; the base is droptape.format.errors.DroptapeError."""

from __future__ import annotations

import errno
import os

from droptape.format.errors import DroptapeError, FormatError

__all__ = ["DroptapeError", "FormatError", "QueryError", "QueryTimeoutError", "RecordingError"]


class OutputClosed(Exception):  # noqa: N818 (not an error: the reader has seen enough)
    """Standard output was closed, as by ``| head``.

    Attributes:
        code: what the command's exit code is all the same.
    """

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code


class RecordingError(DroptapeError):
    """There is no recording where one was expected, or nothing of it can be read."""


def not_readable(path: object, exc: OSError) -> RecordingError:
    """Say in one line that `path` cannot be read, and who can where a right is missing."""
    who = ": read it as root or as a member of its group" if exc.errno == errno.EACCES else ""
    return RecordingError(f"{path} cannot be read: {exc.strerror or exc}{who}")


def refusal(exc: Exception) -> str:
    """Return what the system said, "" when the error is one of what a file holds.

    Arrow has the same class for both, and puts words of its own around those of the system.
    """
    return os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else ""


class QueryError(DroptapeError):
    """A query cannot be answered; the text is one line with the reason and a hint."""


class QueryTimeoutError(QueryError):
    """A query was stopped because it took longer than allowed."""
