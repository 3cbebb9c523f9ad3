"""droptape bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from droptape.analyze.errors import QueryError
from droptape.analyze.render.words import size
from droptape.analyze.targets import is_stream

from ._listing import From, To, opened

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def bundle(
    recording: Annotated[str, typer.Argument(metavar="REC", help="Folder of a recording.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Usually NAME.droptape; whole or not at all."
        ),
    ],
    start: From = None,
    end: To = None,
    max_size: Annotated[
        str,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Thin events until it fits; totals and counters stay exact.",
        ),
    ] = "10MB",
    redact: Annotated[
        bool,
        typer.Option("--redact", help="Replace addresses and names, leave out command lines."),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Key of the replacements: the same key, the same names. Made when missing.",
        ),
    ] = None,
) -> None:
    """Put a recording into one file for a ticket, with its report inside.

    Wherever droptape takes a recording, it takes a bundle. With --redact, nobody without the key
    can tell which replacement stands for what.

    Example: [bold]droptape bundle REC -o ticket.droptape --from mark:deploy --redact[/bold]
    """
    limit = _bytes(max_size)
    with opened([recording]) as rec:
        made = rec.bundle(output, start=start, end=end, max_size=limit, redact=redact, key=key)
    if not is_stream(made):
        print(f"{made}: {size(made.stat().st_size)}")


def _bytes(text: str) -> int:
    lower = text.strip().lower()
    digits = lower.rstrip("bkmg")
    try:
        value = int(float(digits) * _UNITS[lower[len(digits) :]])
    except (ValueError, KeyError, OverflowError):
        raise QueryError(f"{text!r} is not a size; write 500kB, 10MB or 1GB") from None
    if value <= 0:
        raise QueryError("--max-size must be more than nothing")
    return value
