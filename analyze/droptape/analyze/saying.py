"""Telling the user something beside the answer."""

from __future__ import annotations

import sys
from contextlib import suppress

from .plain import printable


def say(text: str) -> None:
    """Write one line to standard error: what it quotes may come from a host that is not trusted."""
    with suppress(OSError):
        print(f"droptape: {printable(text)}", file=sys.stderr)
