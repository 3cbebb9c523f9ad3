"""Asking recordings.

    from droptape.analyze import open_recording

    with open_recording("rec") as rec:
        rec.sql("SELECT reason, count(*) FROM drops GROUP BY reason").df()

Needs no privilege, no Linux and no bcc; only the `analyze` extra of droptape.
"""

from __future__ import annotations

from .errors import DroptapeError, FormatError, QueryError, QueryTimeoutError, RecordingError
from .info import Info, RecordingInfo, TableInfo
from .recording import Recording, open_recording
from .source import Problem
from .summary import Summary

__all__ = [
    "DroptapeError",
    "FormatError",
    "Info",
    "Problem",
    "QueryError",
    "QueryTimeoutError",
    "Recording",
    "RecordingError",
    "RecordingInfo",
    "Summary",
    "TableInfo",
    "open_recording",
]
