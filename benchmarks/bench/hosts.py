"""Datasets of many hosts, made from the real recordings of the notebooks.

The recordings go through `droptape archive` once. Every host is a copy of one of them in the
dataset: its own name, moved in time within the day, every row rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.analyze import archive
from droptape.analyze.dataset.catalog import (
    DAY_NS,
    Entry,
    StoredFile,
    partition,
    read_catalog,
    write_entry,
)
from droptape.analyze.dataset.store import open_store
from droptape.format.manifest import Clock

RECORDINGS = Path(__file__).parents[2] / "notebooks" / "recordings"
_GOLDEN = 0.6180339887
"""Its multiples lie evenly over the day, however many there are."""
_PAUSE_NS = 1_000_000_000


def make(folder: Path, hosts: int, times: int = 1) -> Path:
    """Make a dataset of `hosts` hosts in a new folder; return it.

    Host number *n* is called ``host-<n>``, with five digits. The rows of each come `times` times,
    one after another.
    """
    seed, target = folder / "seed", folder / "data"
    archive([str(path) for path in sorted(RECORDINGS.iterdir())], str(seed))
    originals = read_catalog(open_store(str(seed))).entries
    store = open_store(str(target))
    for number in range(hosts):
        original = originals[number % len(originals)]
        first, last = original.span_ns
        midnight = first - first % DAY_NS
        room = DAY_NS - (times + 1) * (last - first + _PAUSE_NS)
        start = midnight + int(number * _GOLDEN % 1 * room)
        shifts = [start - first + n * (last - first + _PAUSE_NS) for n in range(times)]
        write_entry(store, _copy(original, seed, target, f"host-{number:05d}", shifts))
    return target


def _copy(original: Entry, seed: Path, target: Path, host: str, shifts: list[int]) -> Entry:
    shift = shifts[0]
    manifest = replace(
        original.manifest,
        recording_id=f"{host}-{shift}",
        host=replace(original.manifest.host, name=host, boot_id=host, machine_id=host),
        started_ns=original.manifest.started_ns + shift,
        ended_ns=(original.manifest.ended_ns or 0) + shifts[-1],
        clocks=[Clock(c.mono_ns, c.wall_ns + shift) for c in original.manifest.clocks],
    )
    entry = replace(original, recording=host, host=host, manifest=manifest, files=[])
    entry.files = list(_files(original, entry, seed, target, shifts))
    return entry


def _files(
    original: Entry, entry: Entry, seed: Path, target: Path, shifts: list[int]
) -> Iterator[StoredFile]:
    for file in original.files:
        at = file.first_ns + shifts[0] if file.first_ns is not None else entry.manifest.started_ns
        path = f"{file.table}/{partition(at, entry.host)}/{entry.recording}.parquet"
        once = pq.read_table(seed / file.path, partitioning=None)
        rows = pa.concat_tables(_moved(once, shift) for shift in shifts).combine_chunks()
        names = pa.array([entry.recording] * rows.num_rows, pa.string())
        rows = rows.set_column(rows.column_names.index("recording"), "recording", names)
        written = target / path
        written.parent.mkdir(parents=True, exist_ok=True)
        plain = [n for n in ("ts_ns", "seq", "ack") if n in rows.column_names]
        pq.write_table(
            rows, written, compression="zstd", compression_level=3,
            use_dictionary=[n for n in rows.column_names if n not in plain],
            column_encoding=dict.fromkeys(plain, "DELTA_BINARY_PACKED"),
        )  # fmt: skip
        first = None if file.first_ns is None else file.first_ns + shifts[0]
        last = None if file.last_ns is None else file.last_ns + shifts[-1]
        yield StoredFile(file.table, path, rows.num_rows, written.stat().st_size, first, last)


def _moved(rows: pa.Table, shift: int) -> pa.Table:
    for column in ("ts_ns", "clock_ns", "seen_ns", "started_ns"):
        if column in rows.column_names:
            place = rows.column_names.index(column)
            rows = rows.set_column(place, column, pc.add(rows[column], shift))
    return rows
