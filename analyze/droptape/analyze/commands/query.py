"""droptape query."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from droptape.analyze.client import Client
from droptape.analyze.errors import QueryError, RecordingError
from droptape.analyze.find import find
from droptape.analyze.output import Format
from droptape.analyze.render.explain import plan
from droptape.analyze.targets import refuse_source

from ._listing import (
    Answer,
    Engine,
    EngineOption,
    FormatOption,
    From,
    Hosts,
    Master,
    Memory,
    OutputOption,
    Recordings,
    To,
    deliver,
    names,
    opened,
    warn,
)


def query(
    recordings: Recordings,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One SELECT; - reads it from standard input.")
    ],
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="Stop after this long.")
    ] = None,
    start: From = None,
    end: To = None,
    hosts: Hosts = None,
    engine: EngineOption = Engine.DUCKDB,
    master: Master = None,
    memory: Memory = None,
) -> None:
    """Ask in SQL. Every table of the recording is a view; SHOW TABLES and DESCRIBE list them.

    The query can read nothing but the recording, and write nothing.

    Example: [bold]droptape query REC "SELECT reason, sum(weight) FROM drops GROUP BY ALL"[/bold]
    """
    with suppress(RecordingError):  # opening says what is wrong with them
        refuse_source(output, find(recordings) if output else [])
    text = sys.stdin.read() if sql == "-" else sql
    if engine is not Engine.DUCKDB:
        if timeout is not None:
            raise QueryError("--timeout is for DuckDB; Spark has its own settings")
        with opened(recordings, start, end, hosts, engine, master, memory) as rec:
            rows = rec.sql(text).to_arrow_table()
        deliver(Answer(rows), format, output)
        return
    chosen = names(hosts)
    if master is not None:
        raise QueryError("--master goes with --engine spark")
    with Client(recordings, memory_limit=memory, start=start, end=end, hosts=chosen) as client:
        warn(client.problems)
        with client.ask(text, timeout) as reader:
            deliver(Answer(reader, plan(reader)), format, output)
