"""Keep the part of a recording that belongs to some network namespaces.

A recorder sees the whole machine. For the recordings of the notebooks only the namespaces that
`make_recordings.py` made are of interest, and nothing of the machine it ran on belongs into the
repository. Every value that is kept is the recorder's; only these are left out or set to a
neutral value:

- rows of other namespaces, in every table that has a column `netns`;
- symbols that no kept row needs (one function is named by the nearest symbol before its address);
- processes, control groups and namespaces that no kept row names;
- the name of a task that merely happened to run, unless it owns a socket in a kept row;
- boot id, machine id, and what follows the upstream version in the kernel's release.

The manifest's notes say so, and its list of segments is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.format.layout import added_later, segments
from droptape.format.manifest import Manifest, Segment
from droptape.recorder.segment import SegmentFile

NOTE = (
    "kept by notebooks/_keep.py: the rows of the network namespaces of the laboratory, and the "
    "symbols, processes and control groups that they name; boot and machine id are left out"
)


def keep(recording: Path, target: Path, namespaces: Iterable[int]) -> None:
    """Write to the new folder `target` what belongs to `namespaces` (inode numbers)."""
    manifest = Manifest.read(recording)
    if any(count for causes in manifest.losses.values() for count in causes.values()):
        raise ValueError(f"{recording} has losses, which no namespace can be blamed for")
    target.mkdir(parents=True)
    wanted = pa.array(sorted(namespaces), pa.int64())
    files = {
        file.path: _of_namespaces(_read(file.path), name, wanted)
        for name in (*manifest.tables, "marks")
        for file in segments(recording, name)
    }
    named = _Named([rows for path, rows in files.items() if path.parent.name not in _DICTIONARIES])
    kept: list[Segment] = []
    for path, rows in files.items():
        name = path.parent.name
        rows = named.reduce(name, rows)
        if rows.num_rows:
            (target / name).mkdir(exist_ok=True)
            declared = manifest.tables[name]
            with SegmentFile(declared, target / name / path.name, rows.num_rows) as file:
                file.write(rows.cast(declared.arrow_schema))
                segment = file.finish()
            if not added_later(name):
                kept.append(segment)
    release = re.match(r"[0-9.]+", manifest.host.kernel)
    host = replace(
        manifest.host,
        boot_id="",
        machine_id="",
        kernel=release[0] if release else manifest.host.kernel,
    )
    changed = replace(manifest, host=host, segments=kept, notes=[*manifest.notes, NOTE])
    changed.write(target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


_DICTIONARIES = {"processes", "cgroups", "netns", "symbols", "reasons"}
_OF_THE_HOST = {"counters", "sysctls"}
"""Tables whose rows without a namespace are the host's, and belong to every namespace."""


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read().replace_schema_metadata(None)


def _of_namespaces(rows: pa.Table, name: str, wanted: pa.Array[Any]) -> pa.Table:
    if "netns" not in rows.column_names:
        return rows
    of_wanted = pc.is_in(rows["netns"], wanted)
    if name in _OF_THE_HOST:
        of_wanted = pc.or_(of_wanted, pc.is_null(rows["netns"]))
    return rows.filter(of_wanted)


class _Named:
    """What the kept rows name in the dictionaries."""

    def __init__(self, kept: list[pa.Table]) -> None:
        self._values = {
            column: self._distinct(kept, column)
            for column in ("owner_pid", "cgroup_id", "netns", "location")
        }

    @staticmethod
    def _distinct(kept: list[pa.Table], column: str) -> pa.Array[Any]:
        found = {
            value
            for rows in kept
            if column in rows.column_names
            for value in rows[column].unique().to_pylist()
            if value is not None
        }
        return pa.array(sorted(found), pa.int64())

    def reduce(self, name: str, rows: pa.Table) -> pa.Table:
        """Return of a dictionary what is named; other tables without the names of bystanders."""
        keys = {"processes": ("pid", "owner_pid"), "cgroups": ("id", "cgroup_id"),
                "netns": ("inum", "netns")}  # fmt: skip
        if name in keys:
            key, column = keys[name]
            return rows.filter(pc.is_in(rows[key], self._values[column]))
        if name == "symbols":
            return self._symbols(rows)
        return self._without_bystanders(rows)

    def _symbols(self, rows: pa.Table) -> pa.Table:
        addresses = np.unique(rows["address"].to_numpy())
        at = np.searchsorted(addresses, self._values["location"].to_numpy(), side="right") - 1
        return rows.filter(pc.is_in(rows["address"], pa.array(np.unique(addresses[at[at >= 0]]))))

    def _without_bystanders(self, rows: pa.Table) -> pa.Table:
        if "context_comm" not in rows.column_names:
            return rows
        known = pc.is_in(rows["context_pid"], self._values["owner_pid"])
        known = pc.or_(known, pc.equal(rows["context_pid"], 0))
        for column in ("context_pid", "context_comm"):
            field = rows.schema.field(column)
            values = pc.if_else(known, rows[column].cast(field.type), pa.scalar(None, field.type))
            rows = rows.set_column(rows.schema.get_field_index(column), field, values)
        return rows
