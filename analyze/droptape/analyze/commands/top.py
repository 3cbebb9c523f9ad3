"""droptape top."""

from __future__ import annotations

from typing import Annotated

import typer

from droptape.analyze.recording import Recording

from ._listing import Answer, Benign, TableOption, asking, listing


@listing
@asking
def top(
    rec: Recording,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMNS",
            help="Columns to count by, with commas: reason, function, owner, netns, port, saddr, "
            "container and every other column; without it the cause, and function where there is "
            "one.",
        ),
    ] = None,
    table: TableOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 20,
    include_benign: Benign = False,
) -> Answer:
    """Count events by columns, most frequent first.

    Example: [bold]droptape top REC --by owner,port --limit 5[/bold]
    """
    relation = rec.top(by, table=table, limit=limit, include_benign=include_benign)
    return Answer(relation.to_arrow_table())
