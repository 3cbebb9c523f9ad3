"""droptape top."""

from __future__ import annotations

from typing import Annotated

import typer

from ._listing import (
    Answer,
    Benign,
    Engine,
    EngineOption,
    From,
    Hosts,
    Master,
    Recordings,
    TableOption,
    To,
    listing,
    opened,
)


@listing
def top(
    recordings: Recordings,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="COLUMNS",
            help="Columns to count by, with commas: reason, function, owner, netns, port, saddr, "
            "container and every other column.",
        ),
    ] = "reason,function",
    table: TableOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 20,
    include_benign: Benign = False,
    start: From = None,
    end: To = None,
    hosts: Hosts = None,
    engine: EngineOption = Engine.DUCKDB,
    master: Master = None,
) -> Answer:
    """Count events by columns, most frequent first.

    Example: [bold]droptape top REC --by owner,port --limit 5[/bold]
    """
    with opened(recordings, start, end, hosts, engine, master) as rec:
        relation = rec.top(by, table=table, limit=limit, include_benign=include_benign)
        return Answer(relation.to_arrow_table())
