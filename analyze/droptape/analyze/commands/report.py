"""droptape report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._listing import From, Hosts, Recordings, To, opened


def report(
    recordings: Recordings,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all."),
    ] = Path("report.html"),
    start: From = None,
    end: To = None,
    hosts: Hosts = None,
) -> None:
    """Write one page for a browser: what is wrong, when, who, where, and how sure that is.

    The page needs no network and no other file.

    Example: [bold]droptape report REC -o report.html[/bold]
    """
    with opened(recordings, start, end, hosts) as rec:
        rec.report(output)
