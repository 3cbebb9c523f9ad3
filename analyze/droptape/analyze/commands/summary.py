"""droptape summary."""

from __future__ import annotations

import pyarrow as pa

from droptape.analyze.recording import Recording
from droptape.analyze.render.summary import show

from ._listing import Answer, asking, listing


@listing
@asking
def summary(rec: Recording) -> Answer:
    """Show the answer in one screen: what happened, why, to whom, since when, what is lost.

    The formats csv, ndjson, markdown and parquet hold the causes; json holds everything.

    Example: [bold]droptape summary droptape-web1-20261121T075348Z --from mark:deploy[/bold]
    """
    found = rec.summary()
    schema = pa.schema(
        [(n, pa.string()) for n in ("kind", "cause", "function")]
        + [("events", pa.int64()), ("share", pa.float64())]
        + [(n, pa.timestamp("ns")) for n in ("since", "until")]
    )
    rows = [row | {"since": row["since_ns"], "until": row["until_ns"]} for row in found.causes]
    table = pa.Table.from_pylist(rows, schema)
    return Answer(table, lambda console: show(console, found), found.to_json())
