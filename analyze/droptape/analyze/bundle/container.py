"""The archive: a zip file of which little is allowed.

    bundle.json                             what this is, and how it was made
    recording.json                          the manifest, as in a recording's folder
    report.html                             the report
    <table>/<sequence>-<start>.parquet      the tables

Reading takes nothing on trust: names must be of the forms above, sizes are bounded and are counted
while they are read, and what is not wanted (links, encryption, comments, zip64, other compression)
is refused.
"""

from __future__ import annotations

import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from droptape.analyze.errors import RecordingError
from droptape.format.layout import MANIFEST, open_regular

ENDING = ".droptape"
INDEX = "bundle.json"
REPORT = "report.html"
FORMAT, VERSION = "droptape-bundle", 1

MAX_FILE = 1 << 30
MAX_UNPACKED = 2 << 30
MAX_MEMBERS = 2_000
MAX_TEXT = 32 << 20
MAX_RATIO = 200
"""Limits for reading: bytes of the file, of all members, number of members, bytes of a text, and
how many times larger a compressed member may be than what is stored."""

_START = b"PK\x03\x04"
_END = struct.Struct("<4sHHHHIIH")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,63}/\d{6,12}-\d{8}T\d{6}Z\.parquet")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def is_bundle(path: Path) -> bool:
    """Say whether `path` is a file that looks like a bundle."""
    try:
        with open_regular(path) as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def write(file: BinaryIO, members: Mapping[str, bytes]) -> None:
    """Write an archive: in the order of `members`, Parquet as it is, the rest compressed."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            parquet = name.endswith(".parquet")
            info.compress_type = zipfile.ZIP_STORED if parquet else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=9)


def size(members: Mapping[str, bytes]) -> int:
    """Return the size of the archive with these members."""
    buffer = io.BytesIO()
    write(buffer, members)
    return buffer.tell()


def unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Write the members of a bundle to an empty folder; return its index.

    Raises:
        RecordingError: it is no bundle, is damaged, or holds what a bundle may not; the text names
            the file and the member.
    """
    try:
        with path.open("rb") as file:
            _check_end(file, path)
            with zipfile.ZipFile(file) as archive:
                return _unpack(archive, path, folder)
    except RecordingError:
        raise
    except OSError as exc:
        raise RecordingError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    # zipfile lets many kinds of errors through when the archive is damaged.
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, KeyError, IndexError,
        NotImplementedError, RuntimeError, RecursionError, OverflowError, MemoryError,
    ) as exc:  # fmt: skip
        raise RecordingError(f"{path} is damaged: {_line(exc)}") from exc


def _line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0][:200]


def _check_end(file: BinaryIO, path: Path) -> None:
    """Look at the end of the archive before zipfile reads as much as it says."""
    length = file.seek(0, io.SEEK_END)
    if length > MAX_FILE:
        raise RecordingError(f"{path} is too large for a bundle: {length:,} bytes")
    if length < _END.size:
        raise RecordingError(f"{path} is damaged: cut off")
    file.seek(length - _END.size)
    end = _END.unpack(file.read(_END.size))
    magic, disk, first_disk, here, members, directory, offset, comment = end
    if magic != b"PK\x05\x06" or comment:
        raise RecordingError(f"{path} is damaged: its end is missing")
    if disk or first_disk or here != members or members > MAX_MEMBERS:
        raise RecordingError(f"{path} is no bundle: {members:,} members")
    if offset + directory + _END.size != length or directory > MAX_MEMBERS * 400:
        raise RecordingError(f"{path} is damaged: its directory is not where it should be")


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> dict[str, Any]:
    infos = archive.infolist()
    for info in infos:
        _check(info, path)
    names = [info.filename for info in infos]
    for name in names:
        if names.count(name) > 1:
            raise RecordingError(f"{path}: {_shown(name)} is there twice")
    for wanted in (INDEX, MANIFEST):
        if wanted not in names:
            raise RecordingError(f"{path} is no bundle: it has no {wanted}")
    if sum(info.file_size for info in infos) > MAX_UNPACKED:
        raise RecordingError(f"{path} would take more than {MAX_UNPACKED:,} bytes unpacked")
    for info in infos:
        target = folder / info.filename
        target.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            _extract(archive, info, target, path)
        except zipfile.BadZipFile as exc:
            raise RecordingError(f"{path}: {info.filename} is damaged: {_line(exc)}") from exc
    return _index(folder, path)


def _check(info: zipfile.ZipInfo, path: Path) -> None:
    name = info.filename
    where = f"{path}: {_shown(name)}"
    if name not in (INDEX, MANIFEST, REPORT) and not _TABLE.fullmatch(name):
        raise RecordingError(f"{where} does not belong in a bundle")
    if not stat.S_ISREG(info.external_attr >> 16):
        raise RecordingError(f"{where} is not a plain file")
    if info.flag_bits & ~0x800 or info.extra or info.comment:
        raise RecordingError(f"{where} is encrypted, or packed in a way that a bundle is not")
    parquet = name.endswith(".parquet")
    if info.compress_type != (zipfile.ZIP_STORED if parquet else zipfile.ZIP_DEFLATED):
        raise RecordingError(f"{where} is packed in a way that a bundle is not")
    if not parquet and info.file_size > MAX_TEXT:
        raise RecordingError(f"{where} is too large: {info.file_size:,} bytes")
    if info.file_size > MAX_RATIO * max(info.compress_size, 64):
        raise RecordingError(f"{where} would grow {MAX_RATIO} times or more when unpacked")
    if parquet and info.file_size != info.compress_size:
        raise RecordingError(f"{where} is damaged: its size is not its size")


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, path: Path) -> None:
    left = info.file_size
    with archive.open(info) as packed, target.open("xb") as out:
        while chunk := packed.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise RecordingError(f"{path}: {info.filename} is larger than it says")
            out.write(chunk)
    if left:
        raise RecordingError(f"{path}: {info.filename} is smaller than it says")


def _index(folder: Path, path: Path) -> dict[str, Any]:
    index = json.loads((folder / INDEX).read_bytes())
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise RecordingError(f"{path} is no bundle: {INDEX} says something else")
    version = index.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise RecordingError(
            f"{path} has bundle version {version!r}, this droptape reads up to {VERSION}: "
            "update droptape"
        )
    return index


def _shown(name: str) -> str:
    return ascii(name[:80])
