"""The process that runs SQL of a user: ``python -m droptape.analyze.worker``.

Its parent (client.py) writes one JSON object a line to its standard input: first what to open,
then one query after the other. It answers each on standard output with a line of JSON; when that
says ``stream``, an Arrow IPC stream follows, and after its end another line, which holds the error
when the query failed half way.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from droptape.format.errors import DroptapeError

from . import sandbox
from .damaged import gone
from .dataset.store import is_remote
from .errors import QueryError
from .find import find
from .opening import open_recording
from .recording import Recording

_BATCH_ROWS = 65_536
_WITHOUT_ARROW = re.compile(r"\b(UHUGEINT|BIGNUM)\b")


def _say(out: BinaryIO, **message: Any) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _limit_files(limit: int) -> None:
    """Bound each file this process writes, so that spilling cannot fill the disk."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _next(rec: Recording, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """Return the next batch; QueryError when computing it failed."""
    try:
        return next(iter(reader), None)
    except (duckdb.Error, pa.ArrowException, OSError) as exc:
        raise rec.explain(exc) from exc


def _representable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Refuse columns that DuckDB gives to Arrow with other values, or as bytes of its own."""
    for column, kind in zip(relation.columns, map(str, relation.types), strict=True):
        found = _WITHOUT_ARROW.search(kind)
        if found:
            raise QueryError(f"{column} is {found[0]}, which no format has: cast it to VARCHAR")
    return relation


def _answer(rec: Recording, query: str, out: BinaryIO) -> None:
    streaming = False
    error = ""
    try:
        reader = _representable(rec.sql(query)).to_arrow_reader(_BATCH_ROWS)
        # The first batch may already fail, and then nothing of it should be shown.
        batch = _next(rec, reader)
        _say(out, stream=True)
        streaming = True
        with pa.ipc.new_stream(out, reader.schema) as writer:
            try:
                while batch is not None:
                    writer.write_batch(batch)
                    batch = _next(rec, reader)
            except DroptapeError as exc:
                error = str(exc)
    except DroptapeError as exc:
        error = str(exc)
    except duckdb.Error as exc:
        error = str(rec.explain(exc))
    if streaming or error:
        _say(out, error=error)


def main() -> int:
    """Serve one parent until it closes the pipe."""
    sandbox.die_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    # Whatever else writes to standard output must not get into the stream.
    os.dup2(2, 1)
    setup = json.loads(sys.stdin.readline() or "{}")
    try:
        remote = any(map(is_remote, setup["paths"]))
        paths = setup["paths"] if remote else [str(path) for path in find(setup["paths"])]
        _limit_files(int(setup["file_limit"]))
        readable = sandbox.network_files() if remote else map(Path, paths)
        confined = sandbox.restrict(readable, Path(setup["temp"]), network=remote)
        rec = _open(paths, setup)
    except (DroptapeError, OSError) as exc:
        _say(out, error=str(exc))
        return 2
    _say(out, problems=[str(p) for p in rec.problems], tables=_columns(rec), confined=confined)
    try:
        for line in sys.stdin:
            try:
                # Views name files, and a recorder that keeps a disk budget removes its oldest.
                if any(gone(rec.sources)):
                    again = _open(paths, setup)
                    rec.close()
                    rec = again
            except DroptapeError as exc:
                _say(out, error=str(exc))
                continue
            _answer(rec, json.loads(line)["query"], out)
    finally:
        rec.close()
    return 0


def _open(paths: list[str], setup: dict[str, Any]) -> Recording:
    return open_recording(
        *paths, memory_limit=setup.get("memory_limit"), temp_folder=setup["temp"],
        start=setup.get("start"), end=setup.get("end"), hosts=setup.get("hosts", ()),
    )  # fmt: skip


def _columns(rec: Recording) -> dict[str, Any]:
    return {
        name: {"doc": view.doc, "columns": [[c.name, c.type, c.doc] for c in view.columns]}
        for name, view in rec.views.items()
    }


if __name__ == "__main__":
    sys.exit(main())
