"""droptape archive."""

from __future__ import annotations

from typing import Annotated

import typer

from droptape.analyze.dataset.archive import archive as put
from droptape.analyze.errors import QueryError
from droptape.analyze.render.words import size

from ._listing import warn


def archive(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="REC... DEST",
            help="Recordings, or globs; then the dataset: a folder, or s3://BUCKET/PREFIX.",
            show_default=False,
        ),
    ],
) -> None:
    """Put the recordings of many hosts into a dataset that every engine reads and prunes.

    Wherever droptape takes a recording, it takes a dataset. What is there already is not written
    again, so the same command goes on where it was stopped. Exit code 0, or 1 when a recording was
    left out.

    Example: [bold]droptape archive '/srv/recordings/*' /srv/fleet[/bold]
    """
    if len(arguments) < 2:
        raise QueryError("name recordings, then the dataset: droptape archive REC... DEST")
    done = put(arguments[:-1], arguments[-1])
    warn([*done.left_out, *done.renamed])
    kept = f"; {len(done.kept)} were there already" if done.kept else ""
    print(f"{len(done.added)} archived: {done.rows:,} rows, {size(done.bytes)}{kept}")
    if done.failed:
        raise typer.Exit(1)
