"""The ring reader, on a file that is laid out as the kernel lays out a ring buffer."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.bpf.ring import Ring, RingError

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = PAGE
DTYPE: np.dtype[np.void] = np.dtype([("a", "u8"), ("b", "u4"), ("unused", "V4")])
STRIDE = 8 + DTYPE.itemsize
BUSY, DISCARD = 1 << 31, 1 << 30


class FakeKernel:
    """Writes records as the kernel does; the data area is mirrored by hand."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.memory = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.produced = 0

    @property
    def consumed(self) -> int:
        return int(struct.unpack_from("<Q", self.memory, 0)[0])

    def put(self, value: int, flags: int = 0, length: int = DTYPE.itemsize) -> int:
        """Append one record; return its position."""
        at = self.produced
        assert at + STRIDE - self.consumed <= SIZE
        record = struct.pack("<IIQI4x", length | flags, 0, value, value % 7)
        for i, byte in enumerate(record):
            where = (at + i) % SIZE
            self.memory[2 * PAGE + where] = byte
            self.memory[2 * PAGE + SIZE + where] = byte
        self.produced += STRIDE
        struct.pack_into("<Q", self.memory, PAGE, self.produced)
        return at

    def commit(self, at: int) -> None:
        """Finish a record that was put busy."""
        for copy in (0, SIZE):
            struct.pack_into("<I", self.memory, 2 * PAGE + copy + at % SIZE, DTYPE.itemsize)

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    fake = FakeKernel()
    yield fake
    fake.close()


def values(records: npt.NDArray[Any]) -> list[int]:
    return [int(v) for v in records["a"]]


def test_an_empty_ring(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    assert values(ring.read()) == []
    ring.advance()
    assert kernel.consumed == 0
    ring.close()


def test_a_batch_stays_until_it_is_taken(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    for n in range(5):
        kernel.put(n)
    assert ring.pending() == 5 * STRIDE
    assert values(ring.read()) == values(ring.read()) == [0, 1, 2, 3, 4]
    assert kernel.consumed == 0
    ring.advance()
    assert kernel.consumed == 5 * STRIDE
    assert values(ring.read()) == []
    ring.close()


def test_it_stops_at_the_first_busy_record(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    kernel.put(1)
    busy = kernel.put(2, BUSY)
    kernel.put(3)
    assert values(ring.read()) == [1]
    ring.advance()
    assert values(ring.read()) == []
    kernel.commit(busy)
    assert values(ring.read()) == [2, 3]
    ring.close()


def test_it_skips_discarded_records(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    for n in range(6):
        kernel.put(n, DISCARD if n % 2 else 0)
    assert values(ring.read()) == [0, 2, 4]
    ring.advance()
    assert kernel.consumed == 6 * STRIDE
    ring.close()


def test_the_batch_is_a_copy(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    kernel.put(7)
    records = ring.read()
    ring.advance()
    while kernel.produced < SIZE:
        kernel.put(8) if kernel.produced + STRIDE <= SIZE else None
        if kernel.produced + STRIDE > SIZE:
            break
    kernel.put(9)
    assert values(records) == [7]
    ring.close()


def test_a_record_of_another_size_is_refused(kernel: FakeKernel) -> None:
    ring = Ring(kernel.fd, SIZE, DTYPE)
    kernel.put(1, length=8)
    with pytest.raises(RingError, match="8 bytes"):
        ring.read()
    ring.close()


@given(st.lists(st.lists(st.booleans(), max_size=40), max_size=40))
def test_any_sequence_of_batches_comes_out_once_and_in_order(batches: list[list[bool]]) -> None:
    kernel = FakeKernel()
    ring = Ring(kernel.fd, SIZE, DTYPE)
    put: list[int] = []
    got: list[int] = []
    number = 0
    for batch in batches:
        for discarded in batch:
            kernel.put(number, DISCARD if discarded else 0)
            if not discarded:
                put.append(number)
            number += 1
        got += values(ring.read())
        ring.advance()
    assert got == put
    assert kernel.consumed == kernel.produced
    ring.close()
    kernel.close()
