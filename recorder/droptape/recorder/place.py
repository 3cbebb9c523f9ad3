"""Where a recording is to be made."""

from __future__ import annotations

import os
from pathlib import Path

from droptape.format.errors import DroptapeError


class StoreError(DroptapeError):
    """The folder of a recording cannot be made."""


def check_place(path: Path) -> None:
    """Raise StoreError when no recording could be made at `path`; changes nothing."""
    parent = path.parent
    if os.path.lexists(path):
        raise StoreError(f"{path} exists already: name a new folder")
    try:
        str(path).encode()
    except UnicodeEncodeError as exc:
        raise StoreError(f"{str(path)!r} cannot be made: its name is not UTF-8") from exc
    if not parent.is_dir():
        raise StoreError(f"{path} cannot be made: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise StoreError(f"{path} cannot be made: {parent} is not writable")
