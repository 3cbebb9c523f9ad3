"""What the footer of a sealed file says, and how to ask it without harm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from droptape.format.errors import FormatError
from droptape.format.rollup import KEY, ROWS, Rollup, unpack
from droptape.format.schema import Table

IP = "ip_version"
_MOST_COUNTS = 4_000_000
"""Of a table: they are in memory at once, some 70 bytes each."""


def read_footer(path: Path, *, whole: bool) -> pq.FileMetaData:
    """Read a footer, and unless the file is known to be whole what `only_ip` asks about.

    Asked for the statistics in a damaged footer, pyarrow may end the process; reading is refused.
    """
    with pq.ParquetFile(path) as file:
        if not whole and IP in file.metadata.schema.names:
            for group in range(file.num_row_groups):
                file.read_row_group(group, [IP])
        return file.metadata


def only_ip(footer: pq.FileMetaData) -> bool:
    """Say whether every row is of an IP packet, as far as the footer tells."""
    names = footer.schema.names
    if IP not in names:
        return False
    place = names.index(IP)
    found = [footer.row_group(n).column(place).statistics for n in range(footer.num_row_groups)]
    return all(f is not None and f.has_null_count and f.null_count == 0 for f in found)


def rollups_of(
    table: Table, footers: Iterable[tuple[Path, pq.FileMetaData]]
) -> dict[str, dict[Path, Rollup]]:
    """Return the rollups of files of a table by name; a file without a whole one is left out."""
    found: dict[str, dict[Path, Rollup]] = {}
    left = _MOST_COUNTS
    for path, footer in footers:
        text = (footer.metadata or {}).get(KEY)
        if text is None or table.role != "events":
            continue
        try:
            rollups = unpack(table, text)
        except FormatError:
            continue  # the rows are asked
        for rollup in rollups:
            left -= len(rollup.counts)
            if left >= 0 and int(rollup.counts[ROWS].sum()) == footer.num_rows:
                found.setdefault(rollup.name, {})[path] = rollup
    return found
