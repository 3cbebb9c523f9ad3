"""Real events, kept in this process: what rings and files are measured with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import load
from droptape.bpf import client
from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.bpf.ring import Ring
from droptape.format.decode import Records
from droptape.format.manifest import Manifest
from droptape.format.schema import Table
from droptape.format.tables import TABLES
from droptape.recorder.host import clock_pair, host
from droptape.recorder.store import Store
from lab import Host


@dataclass(slots=True)
class Drops:
    """The program for drops, attached, and its ring.

    Attributes:
        loaded: What the loader handed over.
        table: The table of drops with the kernel's names.
        ring: Its ring; nobody reads it unless asked to.
        ring_fd: The ring's descriptor.
    """

    loaded: Loaded
    table: Table
    ring: Ring
    ring_fd: int

    def records(self, work: Callable[[], object], rows: int) -> Records:
        """Do `work` again and again until `rows` rows are there."""
        # Not np.concatenate: it would leave out the padding that belongs to the record.
        found, at = np.empty(rows, self.table.dtype), 0
        while at < rows:
            work()
            part = self.ring.read()[: rows - at]
            self.ring.advance()
            found[at : at + len(part)] = part
            at += len(part)
        return found


@contextmanager
def drops() -> Iterator[Drops]:
    """Attach the program for drops in this process."""
    loaded = client.load(["drops"])
    kind = all_kinds()["drops"]
    table = kind.table.with_enums(loaded.enums())
    ring_fd = loaded.fds["ring:drops"]
    ring = Ring(ring_fd, kind.ring_bytes, table.dtype)
    try:
        yield Drops(loaded, table, ring, ring_fd)
    finally:
        ring.close()
        loaded.close()


def new_store(folder: Path, table: Table, rotate_bytes: int = 64 << 20) -> Store:
    """Make a recording in `folder` that holds `table`."""
    clock = clock_pair()
    manifest = Manifest(
        recording_id="benchmark",
        host=host(),
        started_ns=clock.wall_ns,
        tables={},
        options={},
        recorder_version="0",
        probes=[],
        clocks=[clock],
    )
    tables = {table.name: table} | TABLES
    return Store.create(folder, manifest, tables, rotate_bytes=rotate_bytes, rotate_seconds=3600)


def wall_offset_ns() -> int:
    """Return UTC minus CLOCK_MONOTONIC."""
    pair = clock_pair()
    return pair.wall_ns - pair.mono_ns


def trouble(server: Host, rows: int) -> None:
    """Make about `rows` drops of several causes, from some thousand flows in random order."""
    full = server.spawn(load.never_read)
    server.call(load.send_mixed, rows, full.ready())
    full.stop()
