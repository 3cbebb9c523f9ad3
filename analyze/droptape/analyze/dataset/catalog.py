"""What a dataset says of its recordings: one small JSON file each, and what their columns mean."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from droptape.analyze.errors import RecordingError
from droptape.format.errors import FormatError
from droptape.format.manifest import Manifest
from droptape.format.plain import loads
from droptape.format.schema import Table

from .layout import RECORDINGS, TABLES
from .store import Store

VERSION = 1
"""Of the layout; one that is newer than this program is left out."""
DAY_NS = 86_400_000_000_000
_READERS = 16
_PARTITION = re.compile(r"date=([^/]+)/host=([^/]+)/")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One Parquet file: its table, path, rows, bytes, and the time of its rows (ns since 1970)."""

    table: str
    path: str
    rows: int
    bytes: int
    first_ns: int | None = None
    last_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """How a table is stored.

    Attributes:
        table: the declaration that the recording carried.
        columns: name and type in SQL of each stored column.
    """

    table: Table
    columns: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Entry:
    """One recording of a dataset.

    Attributes:
        recording: its name, in the column `recording`.
        host: the value of the partition.
        fingerprint: of the recording's files; the same means that nothing has to be done.
        manifest: recording.json, without segments.
        tables: by name.
        files: with rows.
        left_out: what of the recording could not be archived.
    """

    recording: str
    host: str
    fingerprint: str
    manifest: Manifest
    tables: dict[str, Stored]
    files: list[StoredFile] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Where the entry lies."""
        return (
            f"{RECORDINGS}/{partition(self.manifest.started_ns, self.host)}/{self.recording}.json"
        )

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last moment, ns since 1970."""
        firsts = [f.first_ns for f in self.files if f.first_ns is not None]
        lasts = [f.last_ns for f in self.files if f.last_ns is not None]
        ended = self.manifest.ended_ns
        return (
            min([self.manifest.started_ns, *firsts]),
            max([ended if ended is not None else self.manifest.started_ns, *lasts]),
        )


def day(ns: int) -> str:
    """Return the UTC date of an instant."""
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, timezone.utc):%Y-%m-%d}"


def partition(ns: int, host: str) -> str:
    """Return the folders of a day and a host, as Hive writes them."""
    return f"date={day(ns)}/host={quote(host, safe=' ').replace(' ', '%20')}"


def write_entry(store: Store, entry: Entry) -> None:
    """Write the declarations unless they are there, then the entry; OSError when that fails."""
    declared = {
        name: {"declaration": s.table.to_json(), "columns": [list(c) for c in s.columns]}
        for name, s in entry.tables.items()
    }
    text = json.dumps(declared, sort_keys=True).encode()
    key = hashlib.sha256(text).hexdigest()[:16]
    path = f"{TABLES}/{key}.json"
    if path not in store.sizes(TABLES):
        store.write(path, text)
    manifest = entry.manifest.to_json() | {"tables": {}, "segments": []}
    data = {
        "version": VERSION, "recording": entry.recording, "host": entry.host,
        "fingerprint": entry.fingerprint, "tables": key, "manifest": manifest,
        "files": [asdict(f) for f in entry.files], "left_out": entry.left_out,
    }  # fmt: skip
    store.write(entry.path, json.dumps(data, separators=(",", ":")).encode())


@dataclass(slots=True)
class Catalog:
    """The entries of a dataset that were asked for, and what could not be read."""

    entries: list[Entry]
    problems: list[tuple[str, str]]


def read_catalog(store: Store, hosts: Iterable[str] = (), until_ns: int | None = None) -> Catalog:
    """Read the entries of `hosts` (names or globs, all when none) that began before `until_ns`.

    An entry that cannot be read is a problem: its path and why.

    Raises:
        RecordingError: it is no dataset, cannot be reached, or has no such host.
    """
    listed = sorted(path for path in store.sizes(RECORDINGS) if path.endswith(".json"))
    if not listed:
        raise RecordingError(f"{store.place} is not a dataset: it has no {RECORDINGS}")
    wanted = list(hosts)
    chosen = [path for path in listed if _chosen(path, wanted, until_ns)]
    if not chosen and wanted:
        known = sorted({_partition(path)[1] for path in listed})
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        raise RecordingError(
            f"no host matches {', '.join(wanted)}; hosts: {', '.join(known[:10])}{more}"
        )
    declared: dict[str, dict[str, Stored] | str] = {}
    entries: list[Entry] = []
    problems: list[tuple[str, str]] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for path, data in zip(chosen, pool.map(lambda p: _read(store, p), chosen), strict=True):
            found = data if isinstance(data, str) else _entry(store, path, data, declared)
            if isinstance(found, str):
                problems.append((path, found))
            else:
                entries.append(found)
    return Catalog(entries, problems)


def find_entry(store: Store, path: str) -> Entry | None:
    """Return the entry at `path`; None when there is none that can be read."""
    try:
        found = _read(store, path)
    except RecordingError:
        return None
    entry = found if isinstance(found, str) else _entry(store, path, found, {})
    return None if isinstance(entry, str) else entry


def _partition(path: str) -> tuple[str, str]:
    found = _PARTITION.search(path)
    return (found[1], unquote(found[2])) if found else ("", "")


def _chosen(path: str, hosts: list[str], until_ns: int | None) -> bool:
    date, host = _partition(path)
    if until_ns is not None and date > day(until_ns):
        return False
    return not hosts or any(fnmatchcase(host, pattern) for pattern in hosts)


def _read(store: Store, path: str) -> dict[str, Any] | str:
    try:
        data = loads(store.read(path))
    except OSError as exc:
        return f"cannot be read ({exc.strerror or str(exc).splitlines()[0]})"
    except ValueError:
        return "is damaged"
    return data if isinstance(data, dict) else "is damaged"


def _entry(
    store: Store, path: str, data: Mapping[str, Any], declared: dict[str, dict[str, Stored] | str]
) -> Entry | str:
    version = data.get("version")
    if not isinstance(version, int) or version > VERSION:
        return f"has layout version {version}, this droptape reads up to {VERSION}"
    try:
        key = str(data["tables"])
        if key not in declared:
            declared[key] = _declarations(store, key)
        tables = declared[key]
        if isinstance(tables, str):
            return tables
        manifest = Manifest.from_json(data["manifest"], PurePosixPath(path).name)
        manifest.tables = {name: stored.table for name, stored in tables.items()}
        return Entry(
            str(data["recording"]), str(data["host"]), str(data["fingerprint"]), manifest, tables,
            [StoredFile(**f) for f in data["files"]], [str(t) for t in data["left_out"]],
        )  # fmt: skip
    except FormatError as exc:
        return str(exc)
    except (KeyError, TypeError, ValueError) as exc:
        return f"is damaged ({exc!r})"


def _declarations(store: Store, key: str) -> dict[str, Stored] | str:
    path = f"{TABLES}/{key}.json"
    data = _read(store, path)
    if isinstance(data, str):
        return f"{path}, which says what its columns mean, {data}"
    try:
        return {
            name: Stored(
                Table.from_json(one["declaration"]),
                tuple((str(n), str(t)) for n, t in one["columns"]),
            )
            for name, one in data.items()
        }
    except (FormatError, KeyError, TypeError, ValueError, AttributeError) as exc:
        return f"{path}, which says what its columns mean, is damaged ({exc})"
