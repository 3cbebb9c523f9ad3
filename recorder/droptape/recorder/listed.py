"""The sealed files of a recording, as the lines that recording.json has for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from droptape.format.layout import sequence_of
from droptape.format.manifest import LINE, Segment, line_of

_CHUNK = 1 << 14
"""Bytes: what is copied to add a line, and looked through at once to find one."""
_FILE = re.compile(rb'"file": ("[^\n]*?"), "rows"')


class Listed:
    """Segments in the order they were added.

    A recording of weeks has a hundred thousand, and the manifest is written for each new one. So a
    line is made once, and all that is kept of a segment is its line, 0.2 KB, in chunks that are
    never changed: a copy of all is as cheap as a list of them.

    Attributes:
        bytes: size of the segments, by table.
    """

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        """Begin with `segments`, each file once."""
        self.bytes: dict[str, int] = {}
        self._chunks: dict[str, list[bytes]] = {}
        self._newest: dict[str, int] = {}
        for segment in segments:
            self._append(segment)

    def chunks(self) -> list[bytes]:
        """Return all lines, for `Manifest.pieces`."""
        return [chunk for chunks in self._chunks.values() for chunk in chunks]

    def put(self, segment: Segment) -> None:
        """Add a segment, or replace what is said of the same file."""
        self.drop(segment.table, segment.file)
        self._append(segment)

    def drop(self, table: str, file: str) -> None:
        """Forget a file; nothing happens when it is not known."""
        if sequence_of(file) > self._newest.get(table, -1):
            return
        mark = f'"file": {json.dumps(file)}, '.encode()
        chunks = self._chunks[table]
        for i, chunk in enumerate(chunks):
            if mark not in chunk:
                continue
            lines = chunk.split(LINE)[1:]
            going = next(line for line in lines if mark in line)
            self.bytes[table] -= _segment(going).bytes
            chunks[i : i + 1] = [
                left for left in (b"".join(LINE + x for x in lines if x is not going),) if left
            ]
            return

    def of(self, table: str) -> Iterator[Segment]:
        """Return the segments of a table."""
        for chunk in self._chunks.get(table, ()):
            yield from map(_segment, chunk.split(LINE)[1:])

    def all(self) -> Iterator[Segment]:
        """Return the segments of all tables, one table after the other."""
        for table in self._chunks:
            yield from self.of(table)

    def first(self, table: str, after: int) -> Segment | None:
        """Return the segment of the smallest number that is larger than `after`."""
        best, where = 0, b""
        for chunk in self._chunks.get(table, ()):
            for found in _FILE.finditer(chunk):
                number = sequence_of(json.loads(found[1]))
                if number > after and (not where or number < best):
                    best, where = number, found[0]
        lines = (c.split(LINE) for c in self._chunks.get(table, ()) if where and where in c)
        return next((_segment(x) for found in lines for x in found if where in x), None)

    def _append(self, segment: Segment) -> None:
        table, line = segment.table, line_of(segment)
        chunks = self._chunks.setdefault(table, [])
        if chunks and len(chunks[-1]) + len(line) <= _CHUNK:
            chunks[-1] += line
        else:
            chunks.append(line)
        self.bytes[table] = self.bytes.get(table, 0) + segment.bytes
        self._newest[table] = max(self._newest.get(table, 0), sequence_of(segment.file))


def _segment(line: bytes) -> Segment:
    plain: dict[str, Any] = json.loads(line)
    return Segment(**plain)
