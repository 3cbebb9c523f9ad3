"""droptape info."""

from __future__ import annotations

import pyarrow as pa

from droptape.analyze.render.info import show

from ._listing import Answer, From, Hosts, Recordings, To, listing, opened


@listing
def info(recordings: Recordings, start: From = None, end: To = None, hosts: Hosts = None) -> Answer:
    """Show what was recorded, where, when, by which probes, and how complete it is.

    Example: [bold]droptape info droptape-web1-20261121T075348Z[/bold]
    """
    with opened(recordings, start, end, hosts) as rec:
        found = rec.info()
    rows = [
        {
            "recording": one.name,
            "table": table.name,
            "role": table.role,
            "rows": table.rows,
            "journal_rows": table.journal_rows,
            "files": table.files,
            "bytes": table.bytes,
            "first": table.first_ns,
            "last": table.last_ns,
        }
        for one in found.recordings
        for table in one.tables
    ]
    schema = pa.schema(
        [(n, pa.string()) for n in ("recording", "table", "role")]
        + [(n, pa.int64()) for n in ("rows", "journal_rows", "files", "bytes")]
        + [(n, pa.timestamp("ns")) for n in ("first", "last")]
    )
    table = pa.Table.from_pylist(rows, schema)
    return Answer(table, lambda console: show(console, found), found.to_json())
