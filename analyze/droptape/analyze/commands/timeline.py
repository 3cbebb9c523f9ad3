"""droptape timeline."""

from __future__ import annotations

from typing import Annotated

import typer

from droptape.analyze.recording import Recording
from droptape.analyze.render.timeline import Axis, show
from droptape.analyze.timeline import bucket_width

from ._listing import Answer, Benign, TableOption, asking, listing


@listing
@asking
def timeline(
    rec: Recording,
    bucket: Annotated[
        str, typer.Option(metavar="TIME", help="Width of a bucket: 100ms, 1s, 5m, or auto.")
    ] = "auto",
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column to split by; the kind, or a table's cause."),
    ] = None,
    table: TableOption = None,
    include_benign: Benign = False,
    beside: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="NAME", help="Also show an imported table: requests and latencies."
        ),
    ] = None,
) -> Answer:
    """Show events over time.

    Example: [bold]droptape timeline REC --bucket 1s --by reason[/bold]
    """
    relation = rec.timeline(
        bucket=bucket, by=by, table=table, include_benign=include_benign, beside=beside
    )
    rows = relation.to_arrow_table()
    info, marks = rec.info(), rec.marked()
    axis = Axis(bucket_width(rec, bucket), info.origin_ns, info.span_ns)
    return Answer(rows, lambda console: show(console, rows, axis, marks, beside))
