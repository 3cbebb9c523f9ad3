"""Names of the folders of a dataset."""

from __future__ import annotations

from pathlib import Path

RECORDINGS = "_recordings"
TABLES = "_tables"
STAGING = ".staging"


def is_dataset(path: Path) -> bool:
    """Say whether a local folder is a dataset."""
    return (path / RECORDINGS).is_dir()
