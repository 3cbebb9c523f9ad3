"""Folders that are gone when a command is, whatever ends it but SIGKILL."""

from __future__ import annotations

import os
import tempfile

from . import interrupt


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """One that Ctrl-C does not leave behind either when it comes while it is made or removed."""

    def __init__(self, prefix: str, place: str | os.PathLike[str] | None = None) -> None:
        """Make it in `place`, or where temporary files are; OSError when that cannot be done."""
        with interrupt.later():
            super().__init__(prefix=prefix, dir=None if place is None else os.fspath(place))

    def cleanup(self) -> None:
        """Remove it."""
        with interrupt.later():
            super().cleanup()
