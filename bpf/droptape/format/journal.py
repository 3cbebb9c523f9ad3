"""The journal: what a recording holds until its segment is sealed.

A journal is one file per table and segment::

    preamble   8 bytes   b"DROPTAPE"
    frame*

    frame      magic u32, kind u32, rows u32, raw length u32, stored length u32,
               UTC minus CLOCK_MONOTONIC i64 (ns), CRC32 u32 of all of the frame but this field,
               then `stored length` bytes of payload, LZ4 (frame format)

All numbers are little endian. The first frame is of kind HEADER and holds JSON: the table's
declaration, the names of its enums, and the id of the recording. The others are of kind RECORDS:
rows of the table's record one after the other. A frame counts only when it is whole and its CRC
fits, so whatever a crash cuts off costs at most the frame that was being written, and damage in the
middle the frames that it touches: the next one is found by its magic number.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from .decode import Records, decode
from .errors import FormatError
from .layout import open_regular
from .plain import loads
from .schema import Table

PREAMBLE = b"DROPTAPE"
_MAGIC = 0x4A50_5444  # "DTPJ"
_HEAD = struct.Struct("<IIIIIq")
_CRC = struct.Struct("<I")
_FRAME = _HEAD.size + _CRC.size
HEADER, RECORDS = 1, 2
_MAX_RAW = 1 << 28
"""More than a frame ever has: it is what was in one ring, or one reading of all counters."""
_LZ4_RATIO = 255
_SLACK = 1 << 16
_CODEC = "lz4"
_COPIED = 1 << 20
_FIRST_SEARCH, _SEARCH = 1 << 9, 1 << 16
_CUT_OFF = "cut off at byte {at}"
_WASTE = 64 << 20
"""Bytes that may be read in vain, beside four times the file, before the search is given up."""


def encode_frame(kind: int, rows: int, payload: bytes | memoryview, wall_offset_ns: int) -> bytes:
    """Return one frame."""
    stored: bytes = pa.compress(pa.py_buffer(payload), codec=_CODEC, asbytes=True)
    head = _HEAD.pack(_MAGIC, kind, rows, len(payload), len(stored), wall_offset_ns)
    crc = zlib.crc32(stored, zlib.crc32(head))
    return head + _CRC.pack(crc) + stored


def record_frame(records: Records, wall_offset_ns: int) -> bytes:
    """Return the frame of `records` (shape (rows,), dtype of their table)."""
    # Not `tobytes`: it copies records field by field.
    payload = np.ascontiguousarray(records).view("u1").data
    return encode_frame(RECORDS, len(records), payload, wall_offset_ns)


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o640)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; OSError when the file system refuses.

    One `write` may store less than it was given, for example when the disk fills up.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class JournalWriter:
    """Appends batches of records to a new journal.

    After a failed append the file is cut back to the last whole frame, so that a later append can
    succeed.

    Attributes:
        rows: rows appended.
        bytes: size of the file.
        since: when it was opened, as time.monotonic() has it.
        torn: a frame was written in part and could not be cut off: append no more, what would
            follow could not be read.
    """

    def __init__(self, path: Path, table: Table, recording: str = "") -> None:
        """Create `path`; OSError when it exists or cannot be written.

        Args:
            path: the file.
            table: the declaration.
            recording: the `recording_id` of the manifest.
        """
        self.path = path
        self.table = table
        self.rows = 0
        self.since = time.monotonic()
        self.torn = False
        self._fd = _create(path)
        header = json.dumps({"table": table.to_json(), "recording": recording}).encode()
        self.bytes = 0
        try:
            self._write(PREAMBLE + encode_frame(HEADER, 0, header, 0))
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError:
            try:
                os.ftruncate(self._fd, self.bytes)
            except OSError:
                self.torn = True
            raise
        self.bytes += len(data)

    def append(self, records: Records, wall_offset_ns: int) -> None:
        """Append `records` (shape (rows,), dtype `table.dtype`) as one frame."""
        self.append_frame(record_frame(records, wall_offset_ns), len(records))

    def append_frame(self, frame: bytes, rows: int) -> None:
        """Append what `record_frame` made of `rows` rows."""
        self._write(frame)
        self.rows += rows

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more, and with it goes what is in it.

        One that was moved has its rows where it is now: written anew they would be there twice.
        """
        try:
            return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0
        except OSError:
            return False  # the disk does not tell now

    def close(self, *, restore: bool = False) -> bool:
        """Close the file; it stays where it is.

        Args:
            restore: if it is `deleted`, write it anew: its content lives as long as it is open.

        Returns:
            Whether it was written anew.

        Raises:
            OSError: it could not be, or the file system tells only now that it could not write.
        """
        if self._fd < 0:
            return False
        try:
            restored = restore and self.deleted
            if restored:
                self._restore()
        finally:
            descriptor, self._fd = self._fd, -1
            os.close(descriptor)
        return restored

    def _restore(self) -> None:
        self.path.parent.mkdir(mode=0o750, exist_ok=True)
        copy, at = _create(self.path), 0
        try:
            while part := os.pread(self._fd, min(self.bytes - at, _COPIED), at):
                write_all(copy, part)
                at += len(part)
        except OSError:
            os.close(copy)
            self.path.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd, self.torn = copy, False


def _too_large(raw: int, stored: int) -> bool:
    """Say whether no frame of a recorder has these sizes."""
    return raw > _MAX_RAW or stored > raw + _SLACK or raw > stored * _LZ4_RATIO + _SLACK


def _seek_frame(file: BinaryIO, start: int) -> bool:
    """Go to the next place from `start` on that looks like a frame; False when there is none."""
    magic = _MAGIC.to_bytes(4, "little")
    at, tail, size = start, b"", _FIRST_SEARCH
    file.seek(start)
    while part := file.read(size):
        size = min(2 * size, _SEARCH)
        found = (tail + part).find(magic)
        if found >= 0:
            file.seek(at - len(tail) + found)
            return True
        at += len(part)
        tail = part[-3:]
    return False


@dataclass(frozen=True, slots=True)
class Frame:
    """The rows of one frame and the clock offset they were read with."""

    records: Records
    wall_offset_ns: int


class JournalReader:
    """Reads a journal, also one that is still being written or was cut off.

    Attributes:
        table: the declaration from the header.
        recording: id of the recording that it was written for, "" when it does not say.
        damage: after iteration, what could not be read, first part first, or "".
        torn: whether that is only a frame that was not finished, at the end.
        start: after iteration, what tells the first frame of rows from any other, b"" without one.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`; FormatError when not even its header is readable."""
        self.path = path
        self.damage = ""
        self.torn = False
        self.start = b""
        self._head = b""
        self._read = 0
        with open_regular(path) as file:
            if file.read(len(PREAMBLE)) != PREAMBLE:
                raise FormatError(f"{path}: it is not a droptape journal, or its start is lost")
            first = self._next(file)
            if first is None or first[0] != HEADER:
                raise FormatError(f"{path}: the header is damaged ({self.damage or 'missing'})")
            try:
                header = loads(bytes(first[3]))
                self.table = Table.from_json(header["table"])
                self.recording = str(header.get("recording", ""))
            except (ValueError, KeyError, TypeError, RecursionError) as exc:
                raise FormatError(f"{path}: the header is damaged ({exc!r})") from exc
            self._start = file.tell()

    def _next(self, file: BinaryIO) -> tuple[int, int, int, pa.Buffer] | None:
        """Read one frame: (kind, rows, wall offset, payload); None at the end or at damage."""
        at = file.tell()
        head = file.read(_FRAME)
        if not head:
            return None
        if len(head) < _FRAME:
            self.damage = _CUT_OFF.format(at=at)
            return None
        magic, kind, rows, raw, stored, offset = _HEAD.unpack_from(head)
        (crc,) = _CRC.unpack_from(head, _HEAD.size)
        if magic != _MAGIC or _too_large(raw, stored):
            self.damage = f"damaged at byte {at}"
            return None
        # Not by reading it: where frames are forged each would be the rest of the file.
        if stored > os.fstat(file.fileno()).st_size - at - _FRAME:
            self.damage = _CUT_OFF.format(at=at)
            return None
        payload = file.read(stored)
        self._read += stored
        if len(payload) < stored:
            self.damage = _CUT_OFF.format(at=at)
            return None
        if zlib.crc32(payload, zlib.crc32(head[: _HEAD.size])) != crc:
            self.damage = f"checksum wrong at byte {at}"
            return None
        try:
            data = pa.decompress(payload, decompressed_size=raw, codec=_CODEC)
        except (pa.ArrowException, OSError) as exc:
            self.damage = f"damaged at byte {at} ({exc})"
            return None
        self._head = head
        return kind, rows, offset, data

    def frames(self) -> Iterator[Frame]:
        """Yield every whole frame of records, in order; damaged parts between are skipped."""
        dtype = self.table.dtype
        damage = ""
        with open_regular(self.path) as file:
            file.seek(self._start)
            left = 4 * os.fstat(file.fileno()).st_size + _WASTE
            while True:
                at, self.damage, self._read = file.tell(), "", 0
                item = self._next(file)
                if item is None:
                    self.torn = not damage and self.damage == _CUT_OFF.format(at=at)
                    damage = damage or self.damage
                    left -= self._read + _FIRST_SEARCH
                    if left < 0:
                        damage += "; there is too much damage to look for frames behind it"
                        break
                    if not self.damage or not _seek_frame(file, at + 1):
                        break
                    continue
                kind, rows, offset, data = item
                if kind == RECORDS and len(data) == rows * dtype.itemsize:
                    self.start = self.start or self._head
                    yield Frame(np.frombuffer(data, dtype), offset)
                elif kind == RECORDS:
                    damage = damage or f"a frame of {rows} rows has {len(data)} bytes"
        self.damage = damage

    def read(self) -> pa.Table:
        """Return all whole frames as Arrow columns (`Table.arrow_schema`)."""
        parts: list[pa.Table] = [
            decode(self.table, frame.records, frame.wall_offset_ns) for frame in self.frames()
        ]
        if not parts:
            return self.table.arrow_schema.empty_table()
        return pa.concat_tables(parts).unify_dictionaries()
