"""A recording's drops as lines of text: what people search with awk."""

from __future__ import annotations

from pathlib import Path

from droptape.analyze import open_recording

_QUERY = """
SELECT '[' || strftime(ts, '%H:%M:%S.%g') || '] drop ' || coalesce(reason, 'unknown') || ' '
    || coalesce(function || '+0x' || lower(to_hex("offset")), '-') || ' '
    || coalesce(saddr, '') || ':' || sport || ' > ' || coalesce(daddr, '') || ':' || dport
    || ' owner ' || coalesce(owner_comm || '[' || owner_pid || ']', 'unknown') AS line
FROM drops
"""


def write_lines(recording: Path, path: Path) -> int:
    """Write one line per drop, like those of ``droptape-record --live``; return how many."""
    with open_recording(recording) as rec, path.open("wb") as out:
        reader = rec.sql(_QUERY).to_arrow_reader(100_000)
        rows = 0
        for batch in reader:
            lines = batch.column(0)
            out.write(("\n".join(lines.to_pylist()) + "\n").encode())
            rows += len(lines)
        return rows
