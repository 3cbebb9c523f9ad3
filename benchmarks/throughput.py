"""From a full ring to arrays and to sealed Parquet, against bcc's callback loop.

The ring is filled with real events first; only emptying it is measured, in processor time of this
process, all threads included.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import command, load
from bench.capture import Drops, drops, new_store, wall_offset_ns
from bench.table import Options, Ratio, Row
from droptape.format.schema import Table
from droptape.recorder.feed import Feed
from droptape.recorder.scan import OwnerScan
from lab import Host, Lab

_FILL = 90_000
"""Datagrams that nearly fill the ring of drops."""


def _struct(table: Table) -> type[ctypes.Structure]:
    """The record as a ctypes structure, which is how bcc's users read it."""
    simple: dict[str, Any] = {
        "u8": ctypes.c_uint64, "u4": ctypes.c_uint32, "u2": ctypes.c_uint16,
        "u1": ctypes.c_uint8, "i4": ctypes.c_int32,
    }  # fmt: skip
    fields: list[tuple[str, Any]] = []
    for column in table:
        dtype = np.dtype(column.type.dtype)
        code = dtype.str.lstrip("<|=")
        kind = simple.get(code) or ctypes.c_char * dtype.itemsize
        if dtype.kind == "V":
            kind = ctypes.c_uint8 * dtype.itemsize
        fields.append((column.name, kind))
    return type("Event", (ctypes.Structure,), {"_fields_": fields})


class _Bcc:
    """The loop of bcc's `BPF.ring_buffer_consume`, on a ring that is already there."""

    def __init__(self, ring_fd: int, table: Table) -> None:
        from bcc import lib
        from bcc.libbcc import _RINGBUF_CB_TYPE  # type: ignore[attr-defined, unused-ignore]

        self._lib = lib
        self._event = _struct(table)
        self.count = 0
        self.rows: list[tuple[Any, ...]] = []
        self._keep: Callable[[Any], tuple[Any, ...]] | None = None
        self._callback = _RINGBUF_CB_TYPE(self._called)
        self._manager = lib.bpf_new_ringbuf(ring_fd, self._callback, None)
        if not self._manager:
            raise OSError("bcc cannot open the ring")

    def _called(self, context: int, data: int, size: int) -> int:
        """Call the user's function as bcc's RingBuf.open_ring_buffer does."""
        try:
            return int(self._user(context, data, size))
        except TypeError:
            return 0

    def _user(self, _context: int, data: int, _size: int) -> int:
        """Look at one event, as bcc's tools do in their callback."""
        event = ctypes.cast(data, ctypes.POINTER(self._event)).contents
        self.count += event.weight
        if self._keep:
            self.rows.append(self._keep(event))
        return 0

    def consume(self, keep: Callable[[Any], tuple[Any, ...]] | None = None) -> int:
        """Empty the ring; return how many events were in it.

        Args:
            keep: what to take of an event for `to_parquet`.
        """
        self._keep, self.count = keep, 0
        self._lib.bpf_consume_ringbuf(self._manager)
        return self.count

    def to_parquet(self, path: Path) -> None:
        """Write what was kept."""
        columns = list(zip(*self.rows, strict=True))
        arrays = [pa.array(c, pa.uint64() if isinstance(c[0], int) else None) for c in columns]
        table = pa.table(arrays, [f"c{i}" for i in range(len(columns))])
        pq.write_table(table, path, compression="zstd", compression_level=1)
        self.rows.clear()

    def close(self) -> None:
        """Unmap the ring."""
        self._lib.bpf_free_ringbuf(self._manager)


def _some_columns(event: Any) -> tuple[Any, ...]:
    """Return what bcc's tcpdrop prints, and a little more."""
    return (
        event.mono_ns, bytes(event.saddr), bytes(event.daddr), event.sport, event.dport,
        event.netns, event.location, event.reason, event.length, event.owner_pid,
        event.owner_comm, event.ifname, event.protocol,
    )  # fmt: skip


def _all_columns(table: Table) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes every column of an event, as fast as Python can."""
    binary = [c.name for c in table if np.dtype(c.type.dtype).kind == "V"]
    plain = attrgetter(*(c.name for c in table if c.name not in binary))
    arrays = attrgetter(*binary)
    return lambda event: (*plain(event), *map(bytes, arrays(event)))


def _rate(work: Callable[[], int]) -> float:
    """Return events per second of processor time."""
    start = time.process_time()
    events = work()
    return events / (time.process_time() - start)


class _Rings:
    """One full ring after the other."""

    def __init__(self, host: Host, source: Drops) -> None:
        self._sender = host.spawn(_fill_when_asked)
        self._sender.ready()
        self._ring = source.ring

    def fill(self) -> None:
        self._sender.send("fill")
        self._sender.ready(60)

    def stop(self) -> None:
        self._sender.stop()


def _fill_when_asked(child: Any) -> None:
    child.ready()
    while child.receive() == "fill":
        load.datagram_ns(_FILL)
        child.ready()


def measure(options: Options) -> list[Row]:
    """Empty full rings in turn, by every way.

    The first round is not counted: all ways load libraries and touch their memory in it.
    """
    rounds, fills = 1 + options.pick(5, 2), options.pick(5, 2)
    with Lab() as lab, drops() as source, tempfile.TemporaryDirectory() as name:
        rings = _Rings(lab.host("load"), source)
        bcc = _Bcc(source.ring_fd, source.table)
        arrays, callbacks, sealed, theirs, all_theirs = [], [], [], [], []
        every = _all_columns(source.table)
        for number in range(rounds):
            rings.fill()
            arrays.append(_rate(lambda: _read(source)))
            rings.fill()
            callbacks.append(_rate(lambda: bcc.consume()))
            sealed.append(_to_parquet(Path(name) / f"rec{number}", rings, source, fills))
            path = Path(name) / f"{number}.parquet"
            theirs.append(_bcc_to_parquet(path, rings, bcc, _some_columns))
            all_theirs.append(_bcc_to_parquet(path, rings, bcc, every))
        bcc.close()
        with suppress(ConnectionError):
            rings.stop()
    for rates in arrays, callbacks, sealed, theirs, all_theirs:
        del rates[0]
    seal, parquet = Ratio.of(sealed, callbacks), Ratio.of(sealed, theirs)
    same = Ratio.of(sealed, all_theirs)
    return [
        _row("ring to arrays", arrays, "bcc's callback, one field", callbacks),
        Row(
            "ring to sealed Parquet, per core",
            _million(sealed),
            f"bcc's callback, one field {_million(callbacks)}",
            seal,
            "over 1.5 M/s",
            float(np.median(sealed)) > 1.5e6,
        ),
        Row(
            "ring to sealed Parquet, per core",
            _million(sealed),
            f"bcc's callback to pyarrow's Parquet, the same {len(source.table.columns)} columns "
            f"{_million(all_theirs)}",
            same,
            "at least 10 times",
            same.middle >= 10,
        ),
        Row(
            "ring to sealed Parquet, per core",
            _million(sealed),
            f"bcc's callback to pyarrow's Parquet, 13 columns {_million(theirs)}",
            parquet,
        ),
    ]


def _read(source: Drops) -> int:
    count = len(source.ring.read())
    source.ring.advance()
    return count


def _to_parquet(folder: Path, rings: _Rings, source: Drops, fills: int) -> float:
    """As the recorder does: owners, journal, and the segment in the end."""
    store = new_store(folder, source.table)
    feed = Feed(source.loaded, [source.table], OwnerScan(source.loaded), store)
    rows: list[int] = []
    feed.watchers.append(lambda _table, records, _offset: rows.append(len(records)))
    spent = 0.0
    for _ in range(fills):
        rings.fill()
        start = time.process_time()
        while feed.drain(wall_offset_ns()) > 0:
            continue
        spent += time.process_time() - start
    start = time.process_time()
    store.close("the benchmark ended")
    spent += time.process_time() - start
    feed.close()
    return sum(rows) / spent


def _bcc_to_parquet(
    path: Path, rings: _Rings, bcc: _Bcc, keep: Callable[[Any], tuple[Any, ...]]
) -> float:
    def work() -> int:
        events = bcc.consume(keep)
        bcc.to_parquet(path)
        return events

    rings.fill()
    return _rate(work)


def _million(rates: list[float]) -> str:
    return f"{np.median(rates) / 1e6:.2f} M/s"


def _row(what: str, ours: list[float], peer: str, theirs: list[float]) -> Row:
    return Row(what, _million(ours), f"{peer} {_million(theirs)}", Ratio.of(ours, theirs))


if __name__ == "__main__":
    command.main({"throughput": measure}, __doc__)
