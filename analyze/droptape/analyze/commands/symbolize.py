"""droptape symbolize."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from droptape.analyze.errors import QueryError

from ._listing import Answer, listing, opened

_ADDRESS = re.compile(r"0x[0-9a-f]+|[0-9a-f]{16}", re.IGNORECASE)


@listing
def symbolize(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="REC... [ADDRESS...]",
            help="Recordings, then addresses in hexadecimal; without any, those that occur.",
            show_default=False,
        ),
    ],
) -> Answer:
    """Name kernel code: the addresses that occur in a recording, or the ones given.

    Each recording is asked with its own symbols, so that addresses are right under KASLR.

    Example: [bold]droptape symbolize REC 0xffffffff81a2b3c4[/bold]
    """
    addresses = [int(text, 16) for text in arguments if _ADDRESS.fullmatch(text)]
    paths = [text for text in arguments if not _ADDRESS.fullmatch(text)]
    for address in addresses:
        if address >= 1 << 64:
            raise QueryError(f"{address:#x} is no address: it has more than 64 bits")
    with opened(paths) as rec:
        return Answer(rec.symbolize(addresses).to_arrow_table())
