"""droptape correlate."""

from __future__ import annotations

import pyarrow as pa

from droptape.analyze.render.correlation import show

from ._listing import Answer, From, Hosts, Recordings, To, listing, opened


@listing
def correlate(
    recordings: Recordings, start: From = None, end: To = None, hosts: Hosts = None
) -> Answer:
    """Say which drops the retransmits are explained by, and for how many none was seen.

    The view retransmit_causes has every retransmit with its drop.

    Example: [bold]droptape correlate droptape-web1-20261121T075348Z[/bold]
    """
    with opened(recordings, start, end, hosts) as rec:
        found = rec.correlate()
    schema = pa.schema(
        [(n, pa.string()) for n in ("kind", "match", "reason", "function", "netns", "ifname")]
        + [("segments", pa.int64()), ("share", pa.float64()), ("delay_ms", pa.float64())]
    )
    rows = pa.Table.from_pylist(found.rows, schema)
    return Answer(rows, lambda console: show(console, found), found.to_json())
