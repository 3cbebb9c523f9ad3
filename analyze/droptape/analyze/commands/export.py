"""droptape export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from droptape.analyze.export import MAX_EVENTS, ExportFormat
from droptape.analyze.saying import say

from ._listing import From, Hosts, Recordings, opened


def export(
    recordings: Recordings,
    to: Annotated[
        ExportFormat,
        typer.Option(
            "--to", help="perfetto: a timeline; openmetrics: counters to fill a Prometheus with."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all."),
    ] = None,
    max_events: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Events of a timeline, about, before it is thinned."),
    ] = MAX_EVENTS,
    start: From = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only before this time.")
    ] = None,
    hosts: Hosts = None,
) -> None:
    """Write a timeline for Perfetto's UI, or counters for Prometheus.

    Open the timeline at ui.perfetto.dev; "promtool tsdb create-blocks-from openmetrics FILE" makes
    blocks of the counters.

    Example: [bold]droptape export REC --to perfetto -o timeline.json[/bold]
    """
    with opened(recordings, start, until, hosts) as rec:
        done = rec.export(to, output, max_events=max_events)
    if done.note:
        say(done.note)
