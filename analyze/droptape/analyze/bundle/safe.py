"""The process that unpacks a bundle; read.py starts it.

It reads one JSON object from its standard input, ``bundle`` and ``folder``, and answers with lines
of JSON: ``at`` for each member that it comes to, at last ``done`` or ``error``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from droptape.analyze import sandbox
from droptape.analyze.errors import DroptapeError, RecordingError
from droptape.format.errors import FormatError
from droptape.format.layout import MANIFEST
from droptape.format.manifest import Manifest, Segment, sha256

from .container import MAX_UNPACKED, unpack
from .pages import UnsafeFileError, rewrite

_MEMORY = 8 << 30
_CPU_SECONDS = 240


def take(bundle: Path, folder: Path) -> None:
    """Unpack `bundle` to `folder`, look at everything, and write the tables anew.

    Every file is listed in the manifest with its checksum, declared there, and whole.

    Raises:
        RecordingError: something is not so.
    """
    index = unpack(bundle, folder)
    if index.get("manifest_sha256") != sha256(folder / MANIFEST):
        raise RecordingError(f"{bundle}: {MANIFEST} was changed")
    try:
        manifest = Manifest.read(folder)
    except (FormatError, RecursionError) as exc:
        why = str(exc).replace(f"{folder}/", "").replace(str(folder), bundle.name)
        raise RecordingError(f"{bundle}: {why}") from exc
    present = {file.relative_to(folder).as_posix() for file in folder.glob("*/*.parquet")}
    listed = {segment.file: segment for segment in manifest.segments}
    checked = []
    for name in sorted(present | set(listed)):
        if name not in listed:
            raise RecordingError(f"{bundle}: {name} is not in the manifest")
        if name not in present:
            raise RecordingError(f"{bundle}: {name} is missing")
        _say(at=name)
        checked.append(_file(bundle, folder, manifest, listed[name]))
    replace(manifest, segments=checked).write(folder)


def _file(bundle: Path, folder: Path, manifest: Manifest, segment: Segment) -> Segment:
    """Look at one file and write it anew; return how the manifest lists it then."""
    name, path = segment.file, folder / segment.file
    table = manifest.tables.get(path.parent.name)
    if table is None or table.name != path.parent.name:
        raise RecordingError(f"{bundle}: {name} belongs to no declared table")
    if sha256(path) != segment.sha256:
        raise RecordingError(f"{bundle}: {name} was changed: its SHA-256 is not the manifest's")
    try:
        rows = rewrite(path, table)
    except UnsafeFileError as exc:
        raise RecordingError(f"{bundle}: {name}: {exc}") from exc
    if rows != segment.rows:
        raise RecordingError(f"{bundle}: {name} has {rows:,} rows, not {segment.rows}")
    return replace(segment, bytes=path.stat().st_size, sha256=sha256(path))


def _say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _limit() -> None:
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_UNPACKED),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))


def main() -> int:
    """Unpack one bundle."""
    sandbox.die_with_parent()
    setup = json.loads(sys.stdin.readline())
    bundle, folder = Path(setup["bundle"]), Path(setup["folder"])
    try:
        _limit()
        sandbox.restrict([bundle], folder)
        take(bundle, folder)
    except DroptapeError as exc:
        _say(error=str(exc))
        return 2
    except OSError as exc:
        _say(error=f"{bundle} cannot be unpacked: {exc.strerror or exc}")
        return 2
    _say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
