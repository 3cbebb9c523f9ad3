"""droptape verify."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pyarrow as pa
import typer

from droptape.analyze.errors import QueryError
from droptape.analyze.find import find, short_names
from droptape.analyze.render.verification import show
from droptape.analyze.source import load
from droptape.analyze.verify import files_only

from ._listing import Answer, Recordings, listing, opened


@listing
def verify(
    recordings: Recordings,
    all_rows: Annotated[
        bool, typer.Option("--all", help="Also show in the table what agrees.")
    ] = False,
) -> Answer:
    """Check that the files are whole, and the events against the kernel's own counters.

    Exit code 0: all is whole and every difference has a reason. 1: something is damaged, missing
    or unexplained.

    Example: [bold]droptape verify droptape-web1-20261121T075348Z[/bold]
    """
    try:
        with opened(recordings) as rec:
            found = rec.verify()
    except QueryError:
        # A damaged file can keep its recording from being opened at all.
        paths = find(recordings)
        found = files_only([load(p, n) for p, n in zip(paths, short_names(paths), strict=True)])
        if found.balanced:
            raise
    rows = [
        asdict(f) | {"difference": f.difference, "verdict": f.verdict.value} for f in found.findings
    ]
    texts, numbers = pa.string(), pa.int64()
    schema = pa.schema(
        [(n, texts) for n in ("recording", "part", "subject")]
        + [(n, numbers) for n in ("netns", "counted", "recorded", "lost", "difference")]
        + [(n, texts) for n in ("verdict", "why")]
    )
    return Answer(
        pa.Table.from_pylist(rows, schema),
        lambda console: show(console, found, all_rows=all_rows),
        code=0 if found.balanced else 1,
    )
