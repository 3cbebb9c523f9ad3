"""Whether the files of a recording are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.analyze.source import Source
from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import added_later, segments
from droptape.format.manifest import Segment, sha256


def damage(source: Source) -> Iterator[tuple[str, str, str]]:
    """Yield every file that is not as it should be: its name, which of `rules.FILES`, details."""
    manifest = source.manifest
    listed = {s.file: s for s in manifest.segments} if manifest else {}
    present: set[str] = set()
    for table in _folders(source.path):
        for file in segments(source.path, table):
            name = f"{table}/{file.path.name}"
            present.add(name)
            try:
                if not file.sealed:
                    yield from _journal(name, file.path, source.running)
                elif name in listed:
                    yield from _sealed(name, file.path, listed[name])
                else:
                    yield from _unlisted(name, file.path, source, added_later(table))
            except FileNotFoundError:
                present.discard(name)
            except OSError as exc:
                yield name, "unreadable", exc.strerror or str(exc)
    # A file may have been sealed, or the manifest written, after it was read.
    missing = sorted(set(listed) - present)
    yield from ((name, "missing", "") for name in missing if not (source.path / name).exists())


def checked(source: Source) -> int:
    """Count the files that `damage` looks at."""
    return sum(len(segments(source.path, table)) for table in _folders(source.path))


def _folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")


def _sealed(name: str, path: Path, segment: Segment) -> Iterator[tuple[str, str, str]]:
    problem = pages(path)
    if problem:
        yield name, "unreadable", problem
    elif sha256(path) != segment.sha256:
        yield name, "changed", ""


def _unlisted(
    name: str, path: Path, source: Source, expected: bool
) -> Iterator[tuple[str, str, str]]:
    """Without a manifest's word there are the page checksums; a running recorder is behind."""
    problem = pages(path)
    if problem:
        yield name, "unreadable", problem
    elif source.manifest is not None and source.state == "complete" and not expected:
        yield name, "extra", ""


def pages(path: Path | pa.NativeFile) -> str:
    """Read every page of a file, with its checksum; return what is wrong, "" when nothing is."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError, ValueError) as exc:
        if isinstance(exc, FileNotFoundError):
            raise
        return (str(exc).splitlines() or [type(exc).__name__])[0]
    return ""


def _journal(name: str, path: Path, running: bool) -> Iterator[tuple[str, str, str]]:
    try:
        reader = JournalReader(path)
        reader.read()
    except FormatError as exc:
        yield name, "damaged journal", str(exc)
        return
    # The end of a journal that is being written is often half a frame.
    if reader.damage and not running:
        yield name, "damaged journal", reader.damage
