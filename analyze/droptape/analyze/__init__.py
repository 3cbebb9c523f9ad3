"""Asking recordings.

    from droptape.analyze import open_recording

    with open_recording("rec") as rec:
        rec.sql("SELECT reason, count(*) FROM drops GROUP BY reason").df()

Needs no privilege, no Linux and no bcc; only the `analyze` extra of droptape.
"""

from __future__ import annotations

from .causes import Correlation
from .comparison import Change, Diff, diff
from .dataset.archive import Archived, archive
from .diagnosis import Diagnosis
from .errors import DroptapeError, FormatError, QueryError, QueryTimeoutError, RecordingError
from .export import Export, ExportFormat
from .imports import Imported, import_file
from .info import Info, RecordingInfo, TableInfo
from .opening import open_recording
from .recording import Recording
from .source import Problem
from .summary import Summary
from .times import Mark
from .verify import Verification

__all__ = [
    "Archived",
    "Change",
    "Correlation",
    "Diagnosis",
    "Diff",
    "DroptapeError",
    "Export",
    "ExportFormat",
    "FormatError",
    "Imported",
    "Info",
    "Mark",
    "Problem",
    "QueryError",
    "QueryTimeoutError",
    "Recording",
    "RecordingError",
    "RecordingInfo",
    "Summary",
    "TableInfo",
    "Verification",
    "archive",
    "diff",
    "import_file",
    "open_recording",
]
