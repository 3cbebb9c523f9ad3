"""droptape diff."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import pyarrow as pa
import typer

from droptape.analyze.comparison import diff as compare
from droptape.analyze.errors import QueryError
from droptape.analyze.render.difference import show

from ._listing import (
    Answer,
    Benign,
    Engine,
    EngineOption,
    From,
    Hosts,
    Master,
    Memory,
    To,
    listing,
    opened,
)

_NUMBERS = ("before", "after")


class FailOn(str, Enum):
    """What makes the exit code 1."""

    WORSE = "worse"
    NEW = "new"
    ANY = "any"


class Per(str, Enum):
    """What rates are per."""

    AUTO = "auto"
    SECOND = "second"
    CONNECTION = "connection"
    SEGMENT = "segment"


@listing
def diff(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="Folder of a recording, or a glob.")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The one to compare it with.")],
    by: Annotated[
        str, typer.Option("--by", metavar="COLUMNS", help="Columns to tell events apart by.")
    ] = "reason,function",
    per: Annotated[
        Per, typer.Option(help="What rates are per; auto: as fits the kind of event.")
    ] = Per.AUTO,
    threshold: Annotated[
        float, typer.Option(min=1, help="Rates must differ by this factor to be worse or better.")
    ] = 1.2,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999999, help="That all intervals together are right.")
    ] = 0.95,
    least: Annotated[
        int, typer.Option("--min-events", min=1, help="With fewer events there is no verdict.")
    ] = 10,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            "--fail-on", help="Exit with 1 when something is worse or new; is new; has changed."
        ),
    ] = None,
    include_benign: Benign = False,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="TIME", help="BEFORE until this time, AFTER from then on."),
    ] = None,
    start: From = None,
    end: To = None,
    hosts: Hosts = None,
    hosts_after: Annotated[
        str | None,
        typer.Option("--hosts-after", metavar="NAMES", help="Hosts of AFTER, when it has others."),
    ] = None,
    engine: EngineOption = Engine.DUCKDB,
    master: Master = None,
    memory: Memory = None,
) -> Answer:
    """Say what changed between two recordings: new, worse, gone, better, or the same.

    Rates are compared, with what chance allows for. One recording can be compared with itself:
    droptape diff REC REC --split mark:deploy; and hosts of a dataset with others:
    droptape diff DATA DATA --hosts 'web-*' --hosts-after 'db-*'. Exit code 0, or 1 when --fail-on
    applies.

    Example: [bold]droptape diff before after --by reason,owner --fail-on worse[/bold]
    """
    if split and (start or end):
        raise QueryError("--split does not go with --from and --to")
    first, second = (start, end), (start, end)
    if split:
        first, second = (None, split), (split, None)
    groups = (hosts, hosts_after if hosts_after is not None else hosts)
    with (
        opened([before], *first, groups[0], engine, master, memory) as one,
        opened([after], *second, groups[1], engine, master, memory) as other,
    ):
        found = compare(
            one, other, by=by, per=per.value, threshold=threshold, confidence=confidence,
            least=least, include_benign=include_benign,
        )  # fmt: skip
    rates = [f"{s}_per_{p}" for p in ("second", "connection", "segment") for s in _NUMBERS]
    schema = pa.schema(
        [(n, pa.string()) for n in ("verdict", "kind", *found.by)]
        + [(n, pa.int64()) for n in _NUMBERS]
        + [("per", pa.string())]
        + [(n, pa.float64()) for n in ("ratio", "low", "high", *rates, "dispersion")]
        + [(n, pa.bool_()) for n in ("sure", "benign")]
    )
    rows = pa.Table.from_pylist([change.to_json() for change in found.changes], schema)
    failed = fail_on is not None and found.fails(fail_on.value)
    return Answer(rows, lambda console: show(console, found), found.to_json(), code=int(failed))
