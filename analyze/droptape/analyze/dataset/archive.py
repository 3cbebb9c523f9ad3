"""Putting recordings into a dataset."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.analyze import interrupt
from droptape.analyze.bundle.container import is_bundle
from droptape.analyze.database import Settings
from droptape.analyze.dictionary import LOCATIONS
from droptape.analyze.engine import literal, name
from droptape.analyze.errors import DroptapeError, RecordingError
from droptape.analyze.find import find, short_names
from droptape.analyze.origin import Folders
from droptape.analyze.recording import Recording
from droptape.analyze.source import Source, load
from droptape.analyze.verify.files import damage
from droptape.format.layout import MANIFEST, is_recording, stem
from droptape.format.manifest import Manifest

from .catalog import (
    DAY_NS,
    Entry,
    Stored,
    StoredFile,
    find_entry,
    partition,
    read_catalog,
    write_entry,
)
from .columns import LOCATION_TABLE, StoredColumn, arrow_schema, stored_columns
from .layout import RECORDINGS
from .store import FolderStore, Store, Upload, open_store

_GROUP_ROWS = 131_072
_BATCH_ROWS = 65_536
_MEMORY = "1GB"
_SYMBOLS = "symbols"
"""Not archived: every boot has its own, a hundred times the code that occurs (`locations`)."""


@dataclass(slots=True)
class Archived:
    """What became of the recordings.

    Attributes:
        added: names in the dataset of those that were written now.
        kept: of those that were there already.
        left_out: recordings and files that could not be archived, and why.
        renamed: hosts whose name another machine had already, and what they are called.
        bytes: written.
        rows: written.
    """

    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    bytes: int = 0
    rows: int = 0
    failed: int = 0


def archive(paths: Sequence[str], destination: str) -> Archived:
    """Put recordings into the dataset at `destination`, which is made when it is not there.

    A recording appears whole or not at all to droptape, and in its place when it is archived again
    after it went on. What cannot be read is left out and named.

    Args:
        paths: folders of recordings, or globs.
        destination: a folder, or ``s3://bucket/prefix``.

    Raises:
        RecordingError: there is no such recording, the destination is one or lies in one, or the
            dataset cannot be reached.
    """
    store = open_store(destination)
    if isinstance(store, FolderStore):
        _check_not_recorded(store.root)
    found = find(paths)
    if isinstance(store, FolderStore):
        _check_apart(store.root, found)
    done = Archived()
    machines = _machines(store)
    for path, short in zip(found, short_names(found), strict=True):
        try:
            _archive(store, path, short, machines, done)
        except OSError as exc:
            raise RecordingError(f"{store.place} cannot be written: {_line(exc)}") from exc
        except (DroptapeError, duckdb.Error, pa.ArrowException) as exc:
            interrupt.stop()
            done.failed += 1
            done.left_out.append(f"{path}: {_line(exc).removeprefix(f'{path}: ')}; left out")
    return done


def _check_not_recorded(root: Path) -> None:
    """Refuse a folder of a recording: what is asked of it later would be asked of a dataset."""
    what = f"{root} is a recording"
    if root.exists() and not root.is_dir():
        what = f"{root} is a {'bundle' if is_bundle(root) else 'file'}"
    elif not is_recording(root):
        around = next((p for p in root.resolve().parents if is_recording(p)), None)
        if around is None:
            return
        what = f"{root} lies in the recording {around}"
    raise RecordingError(
        f"{what}, so no dataset is made there: name a folder for the dataset after the recordings"
    )


def _check_apart(root: Path, sources: Sequence[Path]) -> None:
    for source in sources:
        if source.resolve().is_relative_to(root.resolve()):
            raise RecordingError(
                f"{source} lies in {root}, where the dataset is to be: name another folder for it"
            )


def _line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")


def _machines(store: Store) -> dict[str, set[str]]:
    """Return the names that each host of the dataset has, with the machines that have it."""
    known: dict[str, set[str]] = {}
    if store.sizes(RECORDINGS):
        for entry in read_catalog(store).entries:
            known.setdefault(entry.host, set()).add(entry.manifest.host.machine_id)
    return known


def _archive(
    store: Store, path: Path, short: str, machines: dict[str, set[str]], done: Archived
) -> None:
    if not path.is_dir():
        raise RecordingError(f"{path}: a bundle is a part of a recording: archive the recording")
    source = load(path, short)
    manifest = source.manifest
    if manifest is None:
        why = str(source.problems[0].text).partition(";")[0].replace(f"{path / MANIFEST}: ", "")
        why = why.removeprefix(f"{path}/")
        raise RecordingError(f"{path}: its host is not known without {MANIFEST}: {why}")
    host = _host(manifest, machines)
    recording = _name(manifest, host)
    fingerprint = _fingerprint(path)
    draft = Entry(recording, host, fingerprint, manifest, {})
    # The folder of its day and host only: a listing of all hosts for each would be quadratic.
    beside = store.sizes(draft.path.rpartition("/")[0])
    before = find_entry(store, draft.path) if draft.path in beside else None
    if before is not None and before.fingerprint == fingerprint and _whole(store, before):
        done.kept.append(recording)
        return
    left_out = _leave_out_damaged(source)
    source.name = recording
    with Recording(Folders([source]), settings=Settings(memory_limit=_MEMORY, threads=1)) as rec:
        entry = Entry(
            recording, host, fingerprint, manifest, _tables(source),
            left_out=_once([*_inside(rec, path), *left_out]),
        )  # fmt: skip
        with store.uploading(recording) as upload:
            for table in entry.tables:
                entry.files += _write(rec, entry, table, upload)
    entry.files = [f for f in entry.files if f.rows]
    write_entry(store, entry)
    for old in before.files if before is not None else ():
        if old.path not in {f.path for f in entry.files}:
            store.delete(old.path)
    machines.setdefault(host, set()).add(manifest.host.machine_id)
    done.added.append(recording)
    if host != (manifest.host.name or host):
        done.renamed.append(f"{path}: another machine is called {manifest.host.name}: now {host}")
    done.left_out += [f"{path}/{text}" for text in entry.left_out]
    done.bytes += sum(f.bytes for f in entry.files)
    done.rows += sum(f.rows for f in entry.files)


def _inside(rec: Recording, path: Path) -> list[str]:
    """Return what could not be read, without the folder, which is gone when it is asked."""
    return [
        f"{p.path.relative_to(path) if p.path.is_relative_to(path) else p.path}: {p.text}"
        for p in rec.problems
    ]


def _once(texts: list[str]) -> list[str]:
    """Keep the first of those that begin with the same file."""
    return list({text.partition(":")[0]: text for text in reversed(texts)}.values())[::-1]


def _host(manifest: Manifest, machines: dict[str, set[str]]) -> str:
    """Return the host's name; one that another machine has already gets the machine's id."""
    host, machine = manifest.host.name or "unknown", manifest.host.machine_id
    taken = machines.get(host, set()) - {"", machine}
    return f"{host}~{machine[:8]}" if taken and machine else host


def _name(manifest: Manifest, host: str) -> str:
    start = stem(0, manifest.started_ns).partition("-")[2]
    return f"{host}-{start}-{manifest.recording_id[:8]}".replace("/", "_")


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != "."):
        relative = file.relative_to(path).as_posix()
        content = file.read_bytes() if relative == MANIFEST else b"%d" % file.stat().st_size
        digest.update(os.fsencode(relative) + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def _whole(store: Store, entry: Entry) -> bool:
    sizes: dict[str, int] = {}
    for table in {f.table for f in entry.files}:
        sizes |= store.sizes(f"{table}/{_folder(entry, table)}")
    return all(sizes.get(f.path) == f.bytes for f in entry.files)


def _folder(entry: Entry, table: str) -> str:
    """Return the one folder that has all of a table's files, or "" when they lie in several."""
    folders = {f.path.rpartition("/")[0].partition("/")[2] for f in entry.files if f.table == table}
    return folders.pop() if len(folders) == 1 else ""


def _leave_out_damaged(source: Source) -> list[str]:
    """Take the files out of `source` that are not as written; name these, and those not there."""
    found = [(file, what) for file, what, _ in damage(source)]
    said = [f"{file}: in the manifest, but not there" for file, what in found if what == "missing"]
    bad = {file: what for file, what in found if what in ("barred", "unreadable", "changed")}
    for table, stored in source.tables.items():
        for index in reversed(range(len(stored.sealed))):
            file = f"{table}/{stored.sealed[index].name}"
            if file in bad:
                why = bad[file].replace("barred", "unreadable")
                said.append(f"{file}: {why} since it was recorded, left out")
                del stored.sealed[index], stored.schemas[index]
    return said


def _tables(source: Source) -> dict[str, Stored]:
    declared = [s.table for t, s in source.tables.items() if t != _SYMBOLS]
    return {
        table.name: Stored(table, tuple((c.name, c.type) for c in stored_columns(table)))
        for table in (*declared, LOCATION_TABLE)
    }


def _write(rec: Recording, entry: Entry, table: str, upload: Upload) -> Iterator[StoredFile]:
    """Write one table, a file for each day."""
    columns = stored_columns(entry.tables[table].table)
    rows = _located(rec) if table == LOCATIONS else f"main.{name(table)}"
    picked = ", ".join(f"{c.store} AS {name(c.name)}" for c in columns)
    query = f"SELECT {picked} FROM {rows}"
    if not {"ts_ns", "clock_ns"} <= {c.name for c in columns}:
        yield _file(rec, entry, table, entry.manifest.started_ns, query, columns, upload)
        return
    days = rec.connection.sql(f"SELECT DISTINCT ts_ns // {DAY_NS} FROM ({query}) ORDER BY 1")
    for (number,) in days.fetchall():
        start = number * DAY_NS
        of_day = f"SELECT * FROM ({query}) WHERE ts_ns >= {start} AND ts_ns < {start + DAY_NS}"
        yield _file(rec, entry, table, start, of_day, columns, upload)


def _located(rec: Recording) -> str:
    recording = literal(rec.sources[0].name)
    return (
        f"(SELECT {recording} AS recording, '0x' || lower(to_hex(location)) AS location, function, "
        '"offset", module FROM r0.d_locations)'
    )


def _file(
    rec: Recording,
    entry: Entry,
    table: str,
    at_ns: int,
    query: str,
    columns: list[StoredColumn],
    upload: Upload,
) -> StoredFile:
    path = (
        f"{table}/{partition(at_ns, entry.host)}/{entry.recording}-{entry.fingerprint[:8]}.parquet"
    )
    schema = arrow_schema(columns)
    reader = rec.connection.sql(query).to_arrow_reader(_BATCH_ROWS)
    groups = _groups(reader)
    first = next(groups, None)
    if first is None:
        return StoredFile(table, path, 0, 0)
    rows, spans = 0, []
    timed = {"ts_ns", "clock_ns"} <= set(schema.names)
    with upload.open(path) as sink, _writer(sink, schema) as writer:
        group: pa.Table | None = first
        while group is not None:
            writer.write_table(group.cast(schema), row_group_size=_GROUP_ROWS)
            rows += group.num_rows
            if timed:
                spans.append(pc.min_max(group["ts_ns"]).as_py())
            group = next(groups, None)
        writer.close()
        size = sink.tell()
    return StoredFile(
        table, path, rows, size,
        min((s["min"] for s in spans), default=None), max((s["max"] for s in spans), default=None),
    )  # fmt: skip


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in reader:
        waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= _GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if sum(b.num_rows for b in waiting):
        yield pa.Table.from_batches(waiting)


def _writer(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    # Time hardly repeats: deltas take less than a dictionary.
    plain = [n for n in ("ts_ns", "seq", "ack") if n in schema.names]
    return pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=3, write_page_checksum=True,
        use_dictionary=[n for n in schema.names if n not in plain],
        column_encoding=dict.fromkeys(plain, "DELTA_BINARY_PACKED"),
    )  # fmt: skip
