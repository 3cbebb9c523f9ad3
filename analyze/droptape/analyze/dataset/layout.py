"""Names of the folders of a dataset."""

from __future__ import annotations

from pathlib import Path

RECORDINGS = "_recordings"
TABLES = "_tables"
STAGING = ".staging"


def is_dataset(path: Path) -> bool:
    """Say whether a local folder is a dataset; False where that may not be looked at."""
    try:
        return (path / RECORDINGS).is_dir()
    except OSError:
        return False
