"""What the footer of a sealed file says, and how to ask it without harm."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

IP = "ip_version"


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
