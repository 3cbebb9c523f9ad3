"""Whether the files of a recording are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from droptape.analyze.errors import refusal
from droptape.analyze.integrity import Integrity, name_of, not_regular, pages
from droptape.analyze.source import Source
from droptape.format.errors import FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import Listing, SegmentFile, added_later, listing
from droptape.format.manifest import Manifest, sha256

__all__ = ["checked", "damage", "pages"]


def damage(source: Source) -> Iterator[tuple[str, str, str]]:
    """Yield every file that is not as it should be: its name, which of `rules.FILES`, details."""
    integrity = Integrity(source.path, _now(source))
    closed: set[str] = set()
    present: set[str] = set()
    for table in _folders(source.path):
        try:
            found = listing(source.path, table, integrity.listed)
        except OSError as exc:
            closed.add(table)
            yield table, "closed", exc.strerror or str(exc)
            continue
        yield from ((f"{table}/{path.name}", "stray", "") for path in found.strays)
        present |= {name_of(file) for file in found.segments}
        # A journal may stand for the file that it became; opening has looked at their rows.
        present |= {f"{table}/{f.path.stem}.parquet" for f in found.segments if not f.sealed}
        for file in found.segments:
            if integrity.removed(file):
                continue
            try:
                yield from _file(file, source, integrity)
            except FileNotFoundError:
                present.discard(name_of(file))
            except OSError as exc:
                yield name_of(file), "barred", refusal(exc) or str(exc)
    for name, segment in sorted(integrity.listed.items()):
        # It may have been sealed after the folder was listed.
        if segment.table in closed or name in present or (source.path / name).exists():
            continue
        yield name, "missing", ""


def _now(source: Source) -> Manifest | None:
    """Return the manifest; while it is recorded the one on disk, which files may have left."""
    if source.running and source.manifest is not None:
        try:
            return Manifest.read(source.path)
        except FormatError:
            pass
    return source.manifest


def checked(source: Source) -> int:
    """Count the files that `damage` looks at."""
    return sum(len(_listing(source, table).segments) for table in _folders(source.path))


def _listing(source: Source, table: str) -> Listing:
    try:
        return listing(source.path, table)
    except OSError:
        return Listing([], [])


def _folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")


def _file(
    file: SegmentFile, source: Source, integrity: Integrity
) -> Iterator[tuple[str, str, str]]:
    name = name_of(file)
    irregular = not_regular(file.path)
    if irregular:
        yield name, "unreadable", irregular
    elif not file.sealed:
        yield from _journal(name, file.path, source.running)
    else:
        yield from _sealed(name, file, integrity)


def _sealed(name: str, file: SegmentFile, integrity: Integrity) -> Iterator[tuple[str, str, str]]:
    """Check the pages, and what the manifest says; a recorder that runs or was killed is behind."""
    problem = pages(file.path)
    if problem:
        yield name, "unreadable", problem
    elif name not in integrity.listed:
        if integrity.finished and not added_later(file.table):
            yield name, "extra", ""
    elif integrity.rows(file) is not None and sha256(file.path) != integrity.listed[name].sha256:
        yield name, "changed", ""


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
