"""Asking recordings.

    from droptape.analyze import open_recording

    with open_recording("rec") as rec:
        rec.sql("SELECT reason, count(*) FROM drops GROUP BY reason").df()

Needs no privilege, no Linux and no bcc; only the `analyze` extra of droptape.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .causes import Correlation as Correlation
    from .comparison import Change as Change
    from .comparison import Diff as Diff
    from .comparison import diff as diff
    from .dataset.archive import Archived as Archived
    from .dataset.archive import archive as archive
    from .diagnosis import Diagnosis as Diagnosis
    from .errors import DroptapeError as DroptapeError
    from .errors import FormatError as FormatError
    from .errors import QueryError as QueryError
    from .errors import QueryTimeoutError as QueryTimeoutError
    from .errors import RecordingError as RecordingError
    from .export import Export as Export
    from .export import ExportFormat as ExportFormat
    from .imports import Imported as Imported
    from .imports import import_file as import_file
    from .info import Info as Info
    from .info import RecordingInfo as RecordingInfo
    from .info import TableInfo as TableInfo
    from .opening import open_recording as open_recording
    from .recording import Recording as Recording
    from .source import Problem as Problem
    from .summary import Summary as Summary
    from .times import Mark as Mark
    from .verify import Verification as Verification

# Imported when they are first asked for: the command line is in this package too, and has to say
# what is not installed.
_FROM = {
    "Archived": ".dataset.archive",
    "Change": ".comparison",
    "Correlation": ".causes",
    "Diagnosis": ".diagnosis",
    "Diff": ".comparison",
    "DroptapeError": ".errors",
    "Export": ".export",
    "ExportFormat": ".export",
    "FormatError": ".errors",
    "Imported": ".imports",
    "Info": ".info",
    "Mark": ".times",
    "Problem": ".source",
    "QueryError": ".errors",
    "QueryTimeoutError": ".errors",
    "Recording": ".recording",
    "RecordingError": ".errors",
    "RecordingInfo": ".info",
    "Summary": ".summary",
    "TableInfo": ".info",
    "Verification": ".verify",
    "archive": ".dataset.archive",
    "diff": ".comparison",
    "import_file": ".imports",
    "open_recording": ".opening",
}
__all__ = list(_FROM)


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    found: object = getattr(importlib.import_module(_FROM[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM})
