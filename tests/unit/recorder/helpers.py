"""Recordings in the making, for tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format import layout
from droptape.format.decode import Records
from droptape.format.journal import JournalReader
from droptape.format.manifest import Manifest
from droptape.format.schema import Table
from droptape.format.tables import TABLES
from droptape.recorder.host import host
from droptape.recorder.store import Store

from .synthetic import drops, drops_table

OFFSET = 10**18


def tables() -> dict[str, Table]:
    return {"drops": drops_table()} | TABLES


def make_manifest() -> Manifest:
    return Manifest(
        recording_id="00000000-0000-0000-0000-000000000000",
        host=host(),
        started_ns=time.time_ns(),
        tables={},
    )


def make_store(path: Path, **options: Any) -> Store:
    return Store.create(path, make_manifest(), tables(), **options)


def numbered(first: int, rows: int) -> Records:
    """Drops whose `ack` counts from `first`."""
    records = drops(rows, remotes=50, seed=first + 1)
    records["ack"] = np.arange(first, first + rows)
    records["mono_ns"] = 10**15 + records["ack"].astype(np.uint64) * 1000
    return records


def read_all(folder: Path, table: str = "drops") -> pa.Table:
    """All rows of a table as a reader sees them: sealed segments and journals.

    A journal that is sealed between listing and opening it is gone: then list again.
    """
    for _ in range(20):
        try:
            return _read_once(folder, table)
        except FileNotFoundError:
            continue
    raise AssertionError("the files change faster than they can be read")


def _read_once(folder: Path, table: str) -> pa.Table:
    parts = []
    for segment in layout.segments(folder, table):
        if segment.sealed:
            parts.append(pq.read_table(segment.path, partitioning=None).replace_schema_metadata())
        else:
            plain = JournalReader(segment.path).read().replace_schema_metadata()
            for i, field in enumerate(plain.schema):
                if pa.types.is_dictionary(field.type):
                    plain = plain.set_column(i, field.name, plain[i].cast(pa.string()))
            parts.append(plain)
    # A segment may say of a column that it has no nulls, a journal does not.
    parts = [
        p.cast(pa.schema([f.remove_metadata().with_nullable(True) for f in p.schema]))
        for p in parts
    ]
    return pa.concat_tables(parts) if parts else pa.table({"ack": pa.array([], pa.int64())})


def acks(folder: Path) -> list[int]:
    return list(np.sort(read_all(folder)["ack"].to_numpy()).tolist())


def settle(store: Store, folder: Path, *, journals: int = 0, seconds: float = 20) -> None:
    """Tick until the background thread has sealed all but `journals` journals."""
    deadline = time.monotonic() + seconds
    while len(list(folder.glob("*/*.journal"))) > journals:
        assert time.monotonic() < deadline, f"not sealed in time: {store.trouble}"
        store.tick()
        time.sleep(0.01)


def wait_for_trouble(store: Store, words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in store.trouble:
        assert time.monotonic() < deadline
        time.sleep(0.01)
