"""Names of files as text that can be stored: they are bytes, and need not be UTF-8."""

from __future__ import annotations

import os


def readable(name: str | os.PathLike[str]) -> str:
    r"""Return a name that the system gave, with bytes that are no UTF-8 as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
