"""Reading a BPF ring buffer whose records all have one size, as NumPy arrays.

The kernel offers a consumer page (writable), a producer page, and the data area twice in a row, so
that a batch never wraps (kernel/bpf/ringbuf.c). It is mapped here once: every page of the second
would count as memory of this process. A batch that wraps is put together. Each record follows an
8-byte header: its length with two flag bits, and a page offset.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from droptape.format.decode import Records

_BUSY, _DISCARD = 1 << 31, 1 << 30
_HEADER_BYTES = 8


class RingError(RuntimeError):
    """The ring holds something else than records of the expected size."""


class Ring:
    """One ring buffer.

    `read` returns a batch without taking it; `advance` gives its room back to the kernel. Between
    the two the batch can be written to the journal, so nothing is lost in a crash of the recorder
    that the kernel has not yet overwritten.
    """

    def __init__(self, fd: int, size: int, dtype: np.dtype[np.void]) -> None:
        """Map the ring.

        Args:
            fd: the ring buffer map; it must stay open.
            size: bytes of its data area.
            dtype: the record, without the ring's header.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        self.size = size
        self.stride = _HEADER_BYTES + dtype.itemsize
        # The producer and the data cannot be written, and the kernel insists on that.
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._data_map = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map)[:8].cast("Q")
        self._producer = memoryview(self._data_map)[:8].cast("Q")
        self._data = np.frombuffer(self._data_map, "u1", offset=page)
        self._record = dtype
        # As plain bytes: NumPy would copy records field by field.
        self._framed = np.dtype(
            {
                "names": ["length", "record"],
                "formats": ["u4", f"V{dtype.itemsize}"],
                "offsets": [0, _HEADER_BYTES],
                "itemsize": self.stride,
            }
        )
        self._fence = threading.Lock()
        self._taken = 0

    def pending(self) -> int:
        """Return how many bytes wait to be read."""
        return self._producer[0] - self._consumer[0]

    def read(self) -> Records:
        """Return a copy of the records that are complete, oldest first; shape (n,)."""
        position = self._consumer[0]
        available = (self._producer[0] - position) // self.stride
        self._taken = 0
        if available <= 0:
            return np.empty(0, self._record)
        # Taking a lock orders the loads before it and after it on every architecture.
        with self._fence:
            start = position % self.size
            length = _joined([run["length"] for run in self._runs(start, available)])
        busy = np.flatnonzero(length & _BUSY)
        if len(busy):
            length = length[: busy[0]]
        if not len(length):
            return np.empty(0, self._record)
        wrong = (length & ~np.uint32(_DISCARD)) != self.stride - _HEADER_BYTES
        if wrong.any():
            raise RingError(f"a record has {int(length[wrong.argmax()])} bytes")
        with self._fence:
            found = _joined([run["record"] for run in self._runs(start, len(length))])
        self._taken = len(length) * self.stride
        discarded = length & _DISCARD
        if discarded.any():
            found = found[discarded == 0]
        return cast(Records, found.view(self._record))

    def _runs(self, start: int, count: int) -> list[npt.NDArray[Any]]:
        """Return `count` records with their headers: to the end, across it, and from the begin."""
        left, across = divmod(self.size - start, self.stride)
        if count <= left:
            return [self._data[start : start + count * self.stride].view(self._framed)]
        middle = start + left * self.stride
        runs = [self._data[start:middle].view(self._framed)]
        begin, count = 0, count - left
        if across:
            begin, count = self.stride - across, count - 1
            both = np.concatenate((self._data[middle:], self._data[:begin]))
            runs.append(both.view(self._framed))
        runs.append(self._data[begin : begin + count * self.stride].view(self._framed))
        return runs

    def advance(self) -> None:
        """Give the room of the last batch back to the kernel."""
        self._consumer[0] += self._taken
        self._taken = 0

    def close(self) -> None:
        """Unmap the ring."""
        # What looks into the maps keeps them alive: drop it first.
        self._consumer.release()
        self._producer.release()
        self._data = np.empty(0, "u1")
        self._consumer_map.close()
        self._data_map.close()


def _joined(runs: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return a copy of the runs, one after the other."""
    if len(runs) == 1:
        return runs[0].copy()
    joined = np.empty(sum(map(len, runs)), runs[0].dtype)
    at = 0
    for run in runs:
        joined[at : at + len(run)] = run
        at += len(run)
    return joined
