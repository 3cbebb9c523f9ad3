"""droptape import."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from droptape.analyze.imports import import_file
from droptape.analyze.saying import say


class Form(str, Enum):
    """What wrote the file."""

    WRK = "wrk"
    K6 = "k6"
    HEY = "hey"
    CSV = "csv"


def import_(
    recording: Annotated[str, typer.Argument(metavar="REC", help="Folder of a recording.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the load generator wrote.")],
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="wrk: what it prints; k6: --out json or csv; hey: -o csv; csv: any with times.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the table; the format when not given.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the load began: UTC, +10s, or mark:TEXT."),
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="The column of times, for csv.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option("--latency", metavar="COLUMN", help="That of latencies, for csv.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="UNIT", help="Of the latencies: s, ms, us or ns.")
    ] = None,
) -> None:
    """Put the output of a load generator beside a recording, as the table imported_NAME.

    droptape timeline REC --with NAME then shows latencies and drops on one time axis.

    Example: [bold]droptape import REC requests.csv --as hey --start +2s[/bold]
    """
    done = import_file(
        recording, file, form.value, name=name, start=start, time=time, latency=latency, unit=unit
    )
    print(f"{done.table}: {done.rows:,} rows, {done.inside:,} in the time of the recording")
    if not done.inside:
        say("warning: no row lies in the time of the recording: is --start or the time zone right?")
