"""Opening a bundle, from whomever it comes."""

from __future__ import annotations

from pathlib import Path

from droptape.analyze.errors import RecordingError
from droptape.format.errors import FormatError
from droptape.format.layout import MANIFEST
from droptape.format.manifest import Manifest, sha256

from .container import unpack
from .pages import UnsafeFileError, check


def read(path: Path, folder: Path) -> None:
    """Unpack the bundle `path` to the empty `folder`, which is then a recording's.

    Everything is looked at before anything is asked: every file is listed in the manifest with its
    checksum, declared there, and whole.

    Raises:
        RecordingError: it is no bundle, or a part of it is not as it should be.
    """
    index = unpack(path, folder)
    if index.get("manifest_sha256") != sha256(folder / MANIFEST):
        raise RecordingError(f"{path}: {MANIFEST} was changed")
    try:
        manifest = Manifest.read(folder)
    except (FormatError, RecursionError) as exc:
        why = str(exc).replace(f"{folder}/", "").replace(str(folder), path.name)
        raise RecordingError(f"{path}: {why}") from exc
    present = {file.relative_to(folder).as_posix() for file in folder.glob("*/*.parquet")}
    listed = {segment.file: segment for segment in manifest.segments}
    for name in sorted(present | set(listed)):
        if name not in listed:
            raise RecordingError(f"{path}: {name} is not in the manifest")
        if name not in present:
            raise RecordingError(f"{path}: {name} is missing")
        segment = listed[name]
        table = manifest.tables.get(name.split("/")[0])
        if table is None or table.name != name.split("/")[0]:
            raise RecordingError(f"{path}: {name} belongs to no declared table")
        if sha256(folder / name) != segment.sha256:
            raise RecordingError(f"{path}: {name} was changed: its SHA-256 is not the manifest's")
        try:
            rows = check(folder / name, table)
        except UnsafeFileError as exc:
            raise RecordingError(f"{path}: {name}: {exc}") from exc
        if rows != segment.rows:
            raise RecordingError(f"{path}: {name} has {rows:,} rows, not {segment.rows}")
