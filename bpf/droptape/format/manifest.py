"""recording.json: what a recording is, how it was made, and how complete it is."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .errors import FormatError, NewerFormatError
from .layout import MANIFEST, open_regular, read_regular
from .plain import build, loads
from .schema import Table

FORMAT_VERSION = 1

LINE = b",\n  "
"""Begins the line of a segment in recording.json; no other place of such a line has a newline."""

_CHECKSUM = b',\n "sha256": "'
"""Begins the last line of recording.json. Where it is missing nothing is checked."""

State = Literal["recording", "complete", "recovered"]
"""``recording`` until the recorder ends in order; ``recovered`` when a later one sealed it."""


@dataclass(slots=True)
class Host:
    """The machine that was recorded."""

    name: str
    boot_id: str
    kernel: str
    architecture: str
    cpus: int
    os: str = ""
    machine_id: str = ""


@dataclass(slots=True)
class Clock:
    """CLOCK_MONOTONIC, UTC and CLOCK_BOOTTIME read together, in nanoseconds.

    CLOCK_BOOTTIME goes on while the host is suspended, CLOCK_MONOTONIC does not. 0 is unknown.
    """

    mono_ns: int
    wall_ns: int
    boot_ns: int = 0


@dataclass(slots=True)
class Probe:
    """One hook of the recorder: what it feeds, by which mechanism, or why it is missing.

    Attributes:
        name: for example ``drops/kfree_skb``.
        table: the table it feeds.
        mechanism: for example ``raw_tracepoint kfree_skb``, "" when missing.
        attached: whether it was live.
        note: why it is missing, or what it lacks on this kernel.
    """

    name: str
    table: str
    mechanism: str
    attached: bool
    note: str = ""


@dataclass(slots=True)
class Segment:
    """One sealed file: its path in the recording, rows, UTC range in ns, size, and SHA-256."""

    table: str
    file: str
    rows: int
    first_ns: int | None
    last_ns: int | None
    bytes: int
    sha256: str

    def has(self, rows: int, first_ns: int, last_ns: int) -> bool:
        """Say whether so many rows of this range are those that were sealed here, or some of them.

        The first row of a journal has a time of its own.
        """
        within = self.first_ns == first_ns and last_ns <= (self.last_ns or 0)
        return within and rows <= self.rows


@dataclass(slots=True)
class Removed:
    """What a recorder with a disk budget took away from one table, oldest first.

    Attributes:
        through: number of the last file that went. Of a table that has a row for each change, a
            file of this number stays, with the last row of each key; of a dictionary an earlier
            one, with the rows that the rest may need.
        files: how many.
        rows: rows in them.
        bytes: their size.
        first_ns: time of the first row, UTC in ns.
        last_ns: time of the last row.
    """

    through: int
    files: int
    rows: int
    bytes: int
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class Manifest:
    """All of recording.json.

    Attributes:
        losses: events that could not be recorded: kind, then cause, then count.
        notes: sentences about the recording that a reader should see.
        removed: by table, what had to go to keep within the disk budget. Only what is younger
            than all of it is complete.
        damaged: what could not be read of files, or was left out: a sentence for each, by
            ``<table>/<name>``.
    """

    recording_id: str
    host: Host
    started_ns: int
    tables: dict[str, Table]
    state: State = "recording"
    ended_ns: int | None = None
    ended_by: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    recorder_version: str = ""
    probes: list[Probe] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    losses: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    removed: dict[str, Removed] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        plain = asdict(replace(self, tables={}))
        return plain | {"tables": {name: t.to_json() for name, t in self.tables.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], origin: str) -> Manifest:
        """Read what `to_json` wrote; FormatError, which names `origin`, when it is not that."""
        try:
            version = data["format_version"]
            if type(version) is not int or version < 1:
                raise ValueError(f"format version {version!r}")
            if version > FORMAT_VERSION:
                raise NewerFormatError(
                    f"{origin} was written by a newer droptape (format version {version}): "
                    "update droptape"
                )
            tables = {n: Table.from_json(t) for n, t in data["tables"].items()}
            wrong = [n for n, table in tables.items() if n != table.name]
            if wrong:
                raise ValueError(*wrong)
            found = build(cls, data, tables=tables)
            strange = [s.file for s in found.segments if not _in_its_table(s)]
            if strange:
                raise ValueError(f"{strange[0]!r} is no file of a table")
            return found
        except NewerFormatError:
            raise
        except FormatError as exc:
            raise FormatError(f"{origin}: {exc}") from exc
        except (
            KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError
        ) as exc:  # fmt: skip
            raise FormatError(f"{origin} is damaged: {exc!r}") from exc

    def to_bytes(self) -> bytes:
        """Return the content of recording.json; its last line has the checksum of all before."""
        return b"".join(pieces(self.head(), map(line_of, self.segments)))

    def head(self) -> bytes:
        """Return the part of recording.json that comes before the segments; see `pieces`."""
        plain = replace(self, segments=[]).to_json()
        del plain["segments"]
        return json.dumps(plain, indent=1).encode().removesuffix(b"\n}")

    def write(self, recording: Path) -> None:
        """Replace the manifest of `recording` in one step; OSError when that fails."""
        write_atomic(recording / MANIFEST, (self.to_bytes(),))

    @classmethod
    def read(cls, recording: Path) -> Manifest:
        """Read the manifest of `recording`; FormatError when it is missing or damaged."""
        path = recording / MANIFEST
        try:
            text = read_regular(path)
            data = loads(text)
        except FileNotFoundError as exc:
            raise FormatError(f"{recording} is not a recording: it has no {MANIFEST}") from exc
        except OSError as exc:
            raise FormatError(f"{path} cannot be read: {exc.strerror}") from exc
        except (ValueError, RecursionError) as exc:
            raise FormatError(f"{path} is damaged: {exc}") from exc
        if not isinstance(data, dict):
            raise FormatError(f"{path} is damaged: not an object")
        body, _, checksum = text.rpartition(_CHECKSUM)
        if body and hashlib.sha256(body).hexdigest().encode() != checksum[:64]:
            raise FormatError(f"{path} is damaged: its checksum is of another content")
        return cls.from_json(data, str(path))


def line_of(segment: Segment) -> bytes:
    """Return a segment's line of recording.json, `LINE` first: the same for all its life."""
    return LINE + json.dumps(asdict(segment)).encode()


def pieces(head: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of recording.json, which may be too large to have all of it in memory.

    Args:
        head: `Manifest.head`.
        lines: results of `line_of`, or several of them in one piece.
    """
    digest, comma = hashlib.sha256(), 1
    for piece in itertools.chain((head, b',\n "segments": ['), lines, (b"\n ]",)):
        if piece.startswith(LINE):
            piece, comma = piece[comma:], 0
        digest.update(piece)
        yield piece
    yield _CHECKSUM + digest.hexdigest().encode() + b'"\n}\n'


def _in_its_table(segment: Segment) -> bool:
    folder, _, name = segment.file.partition("/")
    return folder == segment.table and folder.isidentifier() and "/" not in name and name != ""


def write_atomic(path: Path, data: Iterable[bytes]) -> None:
    """Write the pieces of `data` to `path`; a reader sees the old or the new content, no part."""
    fd, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o640)
            file.writelines(data)
            file.flush()
            os.fsync(fd)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # fsync(2): some file systems do it for files only
            raise
    finally:
        os.close(fd)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
