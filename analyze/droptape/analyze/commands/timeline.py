"""droptape timeline."""

from __future__ import annotations

from typing import Annotated

import typer

from droptape.analyze.render.timeline import show
from droptape.analyze.timeline import bucket_width

from ._listing import Answer, Benign, Recordings, TableOption, listing, opened


@listing
def timeline(
    recordings: Recordings,
    bucket: Annotated[
        str, typer.Option(metavar="TIME", help="Width of a bucket: 100ms, 1s, 5m, or auto.")
    ] = "auto",
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column to split by; the kind, or a table's cause."),
    ] = None,
    table: TableOption = None,
    include_benign: Benign = False,
) -> Answer:
    """Show events over time.

    Example: [bold]droptape timeline REC --bucket 1s --by reason[/bold]
    """
    with opened(recordings) as rec:
        relation = rec.timeline(bucket=bucket, by=by, table=table, include_benign=include_benign)
        rows = relation.to_arrow_table()
        width, span = bucket_width(rec, bucket), rec.info().span_ns
    return Answer(rows, lambda console: show(console, rows, width, span))
