"""Counts of the rows of a segment, in its footer: usual questions need not read the rows.

The footer of a file of events may have `droptape.rollup`, a JSON object with two rollups: `causes`,
by cause, kernel function and slot of time, and `owners`, by cause, process, control group and
service's port. A file whose rows are too different for one does not have it: its rows are read.
Each is an object:

- `origin_ns`, `width_ns`: slots begin at whole multiples of the width after the start of the
  recording, as the buckets of a timeline do. They are as wide as it takes for a count to stand for
  32 rows on average, from 100 ms up; those of `owners` are a day.
- `keys`: what is counted by, columns of the table and `port`, 0 where there is none.
- `rows`: how many counts there are.
- `data`: the columns of all counts one after the other, little endian, compressed with zstd, in
  base64: the keys as the kernel's records have them, then start of the slot, time of the first and
  of the last row (64 bits, UTC in ns), the sum of `weight`, and the number of rows (64 bits).
- `crc32`: of `origin_ns`, `width_ns`, `keys` and `rows` as such an object, then of the columns.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .decode import Records, decode
from .errors import FormatError
from .plain import loads
from .schema import Column, Table
from .types import CGROUP, KSYM, U16, U64, WALL

KEY = b"droptape.rollup"
"""Key of the rollup in the footer of a sealed file."""

SLOT, FIRST, LAST, WEIGHT, ROWS, PORT = "slot", "first", "last", "weight", "rows", "port"
CAUSES, OWNERS = "causes", "owners"
_AMOUNT = ("benign", "segments")
_CODEC = "zstd"
_MOST = 1 << 20
"""Rows of a rollup that is read: the recorder writes a fraction of it."""

_LATEST = 1 << 62
"""The year 2116, in ns: differences of instants before it fit into 64 bits."""

_PORT = Column(PORT, U16, "the service's port; null when there is none", null_if=0)
_OURS = (
    Column(SLOT, WALL, "start of the slot", "ns"),
    Column(FIRST, WALL, "time of the first row, UTC since 1970-01-01", "ns"),
    Column(LAST, WALL, "time of the last row, UTC since 1970-01-01", "ns"),
    Column(WEIGHT, U64, "sum of `weight`"),
    Column(ROWS, U64, "how many rows were counted"),
)


@dataclass(frozen=True, slots=True)
class Slots:
    """How a rollup divides time.

    Attributes:
        origin_ns: where slots begin to be counted, ns since 1970.
        width_ns: how long one is.
    """

    origin_ns: int
    width_ns: int

    def fit(self, origin_ns: int, width_ns: int) -> bool:
        """Say whether each slot is in one of the buckets of this width from this origin on."""
        return width_ns % self.width_ns == 0 and (origin_ns - self.origin_ns) % self.width_ns == 0


@dataclass(frozen=True, slots=True)
class Rollup:
    """Counts of one segment.

    Attributes:
        name: which they are.
        slots: of time.
        table: the declaration, as `rollup_table` makes it.
        counts: shape (rows,), dtype `table.dtype`.
    """

    name: str
    slots: Slots
    table: Table
    counts: Records

    def to_arrow(self) -> pa.Table:
        """Return the counts as Arrow columns (`table.arrow_schema`)."""
        return decode(self.table, self.counts, 0)


def keys_of(table: Table, rollup: str) -> tuple[str, ...]:
    """Return what the rows of an event table are counted by in one of its rollups."""
    names = {table.cause, *_AMOUNT}
    if rollup == OWNERS:
        names |= {"owner_pid", "owner_comm"}
    kind = CGROUP if rollup == OWNERS else KSYM
    keys = tuple(c.name for c in table if c.name in names or c.type is kind)
    return (*keys, PORT) if rollup == OWNERS else keys


def rollup_table(table: Table, keys: Iterable[str]) -> Table:
    """Declare the counts of an event table by `keys`; KeyError for a column it does not have."""
    counted = [_PORT if key == PORT else table[key] for key in keys]
    return Table(table.name, f"Counts of {table.name}.", (*counted, *_OURS), cause=table.cause)


def pack(rollups: Iterable[Rollup]) -> str:
    """Return the text for the footer."""
    return json.dumps({rollup.name: _packed(rollup) for rollup in rollups})


def _packed(rollup: Rollup) -> dict[str, Any]:
    # Column by column: equal values meet.
    names = rollup.table.dtype.names or ()
    raw = b"".join(np.ascontiguousarray(rollup.counts[name]).tobytes() for name in names)
    data: bytes = pa.compress(pa.py_buffer(raw), codec=_CODEC, asbytes=True)
    header = {
        "origin_ns": rollup.slots.origin_ns,
        "width_ns": rollup.slots.width_ns,
        "keys": [column.name for column in rollup.table if column not in _OURS],
        "rows": len(rollup.counts),
    }
    more = {"crc32": _checksum(header, raw), "data": base64.b64encode(data).decode()}
    return header | more


def _checksum(header: Mapping[str, Any], raw: bytes) -> int:
    return zlib.crc32(raw, zlib.crc32(json.dumps(header).encode()))


def unpack(table: Table, text: bytes) -> list[Rollup]:
    """Read what `pack` wrote for a segment of the event table `table`.

    Raises:
        FormatError: it is damaged, or does not fit the table.
    """
    try:
        found = loads(text)
        return [
            _unpacked(table, name, dict(found[name])) for name in (CAUSES, OWNERS) if name in found
        ]
    except (
        KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, OSError,
    ) as exc:  # fmt: skip
        raise FormatError(f"the rollup in its footer is damaged ({exc!r})") from exc


def _unpacked(table: Table, name: str, header: dict[str, Any]) -> Rollup:
    crc, data = header.pop("crc32"), header.pop("data")
    slots = Slots(int(header["origin_ns"]), int(header["width_ns"]))
    declared = rollup_table(table, map(str, header["keys"]))
    rows = int(header["rows"])
    if not (0 < slots.width_ns < _LATEST and abs(slots.origin_ns) < _LATEST and 0 <= rows <= _MOST):
        raise ValueError("no slots, or too many rows")
    counts: npt.NDArray[np.void] = np.zeros(rows, declared.dtype)
    kinds = {column: counts.dtype[column] for column in declared.dtype.names or ()}
    size = rows * sum(kind.itemsize for kind in kinds.values())
    packed = base64.b64decode(data, validate=True)
    raw: bytes = pa.decompress(packed, size, _CODEC, asbytes=True)
    if len(raw) != size or _checksum(header, raw) != crc:
        raise ValueError("its checksum is wrong")
    at = 0
    for column, kind in kinds.items():
        counts[column] = np.frombuffer(raw, kind, rows, at)
        at += rows * kind.itemsize
    times = np.stack([counts[column] for column in (SLOT, FIRST, LAST)])
    if ((times >= _LATEST) | (times <= -_LATEST)).any():
        raise ValueError("no times")
    return Rollup(name, slots, declared, counts)
