"""What `droptape.analyze` raises; the base is droptape.format.errors.DroptapeError."""

from __future__ import annotations

from droptape.format.errors import DroptapeError, FormatError

__all__ = ["DroptapeError", "FormatError", "QueryError", "QueryTimeoutError", "RecordingError"]


class OutputClosed(Exception):  # noqa: N818 (not an error: the reader has seen enough)
    """Standard output was closed, as by ``| head``."""


class RecordingError(DroptapeError):
    """There is no recording where one was expected, or nothing of it can be read."""


class QueryError(DroptapeError):
    """A query cannot be answered; the text is one line with the reason and a hint."""


class QueryTimeoutError(QueryError):
    """A query was stopped because it took longer than allowed."""
