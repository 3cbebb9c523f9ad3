"""From what a user writes to the folders of recordings."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from droptape.format.layout import is_closed, is_recording

from .bundle.container import is_bundle
from .dataset.layout import is_dataset
from .errors import RecordingError, not_readable

GONE = "the current folder is gone: change to one that is there"


def find(patterns: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Expand paths and globs to folders of recordings, in order, each once.

    Raises:
        RecordingError: a path does not exist, a glob matches no recording, or nothing was given.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        for path in _expand(os.fspath(pattern)):
            try:
                found.setdefault(path.resolve(), path.absolute())
            except FileNotFoundError as exc:
                raise RecordingError(GONE) from exc
    if not found:
        raise RecordingError("no recording given")
    return list(found.values())


def _expand(pattern: str) -> list[Path]:
    try:
        path = Path(pattern).expanduser()
        there = path.exists()
    except PermissionError as exc:
        raise not_readable(path, exc) from exc
    except (OSError, RuntimeError, ValueError) as exc:
        why = exc.strerror or exc if isinstance(exc, OSError) else exc
        shown = pattern if len(pattern) <= 200 else f"{pattern[:200]}…"
        raise RecordingError(f"{shown} cannot be read: {why}") from exc
    if there:
        # Of a folder that is closed `load` says so: the others that were named are read.
        inside = [] if is_closed(path) else _recordings_in(path)
        if inside and not is_recording(path) and not is_dataset(path):
            raise RecordingError(
                f"{path} is not a recording but holds {len(inside)}, such as {inside[0]}: "
                f"name one of them, or all with '{path}/*'"
            )
        return [path]
    if not glob.has_magic(pattern):
        raise RecordingError(f"{path} does not exist")
    matches = [Path(match) for match in sorted(glob.glob(str(path)))]  # noqa: PTH207 (absolute too)
    recordings = [m for m in matches if is_recording(m) or is_closed(m) or is_bundle(m)]
    if not recordings:
        raise RecordingError(f"no recording matches {pattern!r}")
    return recordings


def _recordings_in(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if is_recording(p)) if path.is_dir() else []
    except OSError as exc:
        raise not_readable(path, exc) from exc


def short_names(paths: list[Path]) -> list[str]:
    """Name each path by its folder; those that share a name get their parent's in front."""
    absolute = [path.resolve() for path in paths]
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]) for path in absolute]
        if len(set(names)) == len(names):
            return names
        depth += 1
