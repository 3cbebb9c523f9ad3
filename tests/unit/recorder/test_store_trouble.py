"""What a disk, a folder or the sealing can do wrong, and what becomes of the rows."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf.kinds import all_kinds
from droptape.format.journal import JournalWriter, record_frame
from droptape.format.manifest import Manifest
from droptape.format.tables import REASONS, TABLES, TOTALS
from droptape.recorder import jobs, reserve, worker
from droptape.recorder import store as store_module
from droptape.recorder.place import StoreError
from droptape.recorder.seal import seal_journal
from droptape.recorder.store import Store

from .helpers import OFFSET, acks, make_manifest, make_store, numbered, read_all, wait_for_trouble

REASON = {"enum": "skb_drop_reason", "value": 2, "name": "NOT_SPECIFIED", "subsystem": "core"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing_that_fits_into_memory(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(worker, "_RETRY_SECONDS", 0.0)
    folder = small_disk / "rec"
    store = make_store(folder, rotate_bytes=200_000)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 3_200_000)
    for first in range(0, 30_000, 1000):
        store.append("drops", numbered(first, 1000), OFFSET)
        store.tick()
    assert "No space left" in store.trouble
    filler.unlink()
    deadline = time.monotonic() + 30
    while store.trouble:
        assert time.monotonic() < deadline, store.trouble
        store.tick(time.monotonic() + 2)
        time.sleep(0.02)
    store.close("test")
    assert store.trouble == ""
    assert acks(folder) == list(range(30_000))
    assert Manifest.read(folder).losses == {}
    assert not list(folder.rglob(".*"))


def test_a_disk_that_is_full_at_the_start_leaves_no_folder(small_disk: Path) -> None:
    """Once it is another user, the recorder may not remove the folder from that of root."""
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(b"x" * (5 << 20))
    try:
        with pytest.raises(StoreError, match="No space left"):
            make_store(small_disk / "rec", made=lambda folder: os.seteuid(65534))
    finally:
        os.seteuid(0)
    assert not (small_disk / "rec").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_does_not_fit_into_memory_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 0.0)
    folder = tmp_path / "rec"
    store = make_store(folder, memory_bytes=20_000)
    full = True
    write = os.write

    def refuse(fd: int, data: bytes) -> int:
        if full and len(data) > 1:
            # What a disk that fills up does: a part, then nothing.
            return write(fd, data[: len(data) // 2]) if len(data) > 5000 else _refuse(number)
        return write(fd, data)

    monkeypatch.setattr("os.write", refuse)
    for first in range(0, 5000, 500):
        records = numbered(first, 500)
        records["weight"] = 3
        store.append("drops", records, OFFSET)
    assert os.strerror(number) in store.trouble
    assert store.lost > 0
    full = False
    store.append("drops", numbered(5000, 10), OFFSET)
    store.close("test")

    kept = acks(folder)
    assert len(kept) == len(set(kept))
    assert kept[-10:] == list(range(5000, 5010))
    missing = 5010 - len(kept)
    losses = read_all(folder, "losses").to_pylist()
    assert {(row["kind"], row["cause"]) for row in losses} == {("drops", "disk_full")}
    assert sum(row["events"] for row in losses) == 3 * missing == store.lost
    assert Manifest.read(folder).losses == {"drops": {"disk_full": 3 * missing}}


def test_lost_retransmits_are_counted_in_segments_as_in_the_totals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = all_kinds()["retransmits"].table
    rows = np.zeros(100, table.dtype)
    rows["weight"], rows["segments"] = 2, 40
    folder = tmp_path / "rec"
    tables = {table.name: table} | TABLES
    room = len(record_frame(rows, OFFSET))  # for one batch
    store = Store.create(folder, make_manifest(), tables, memory_bytes=room)
    append = JournalWriter.append_frame

    def refuse(journal: JournalWriter, frame: bytes, count: int) -> None:
        append(journal, frame, count) if count < len(rows) else _no_space()

    monkeypatch.setattr(JournalWriter, "append_frame", refuse)
    # The first stay in memory until the end, the others find no room there.
    for _ in range(3):
        store.append(table.name, rows, OFFSET)
    assert store.lost == 200 * 80
    store.close("test")
    losses = read_all(folder, "losses").to_pylist()
    assert sum(row["events"] for row in losses) == 300 * 80 == store.lost
    assert Manifest.read(folder).losses == {"retransmits": {"disk_full": 300 * 80}}


def _refuse(number: int) -> int:
    raise OSError(number, os.strerror(number))


def _no_space() -> int:
    return _refuse(errno.ENOSPC)


def test_a_disk_that_stays_full_leaves_journals_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 5000), OFFSET)
    monkeypatch.setattr("droptape.recorder.segment.write_all", lambda *_: _no_space())
    store.close("test")
    assert "No space left" in store.trouble
    manifest = Manifest.read(folder)
    assert "was not written: No space left" in manifest.notes[-1]
    assert not list(folder.rglob(".*"))
    assert not list(folder.glob("drops/*.parquet"))
    assert acks(folder) == list(range(5000))


def test_a_bug_in_sealing_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, rotate_bytes=1)

    def broken(path: Path, started_ns: int) -> object:
        monkeypatch.setattr(jobs, "seal_journal", seal_journal)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(jobs, "seal_journal", broken)
    store.append("drops", numbered(0, 10), OFFSET)
    store.tick()
    wait_for_trouble(store, "a bug")
    store.append("drops", numbered(10, 10), OFFSET)
    store.close("test")
    assert acks(folder) == list(range(20))
    assert any("a bug" in note for note in Manifest.read(folder).notes)
    assert len(list(folder.glob("drops/*.parquet"))) == 1


def test_a_deleted_folder_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 10), OFFSET)
    (tmp_path / "rec").rename(tmp_path / "moved")
    store.tick(time.monotonic() + 2)
    assert "deleted or moved" in store.trouble
    store.close("test")
    assert store.trouble


def test_a_journal_that_cannot_be_closed_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = os.close, [True]

    def close(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)
        if name.endswith(".journal") and fails.pop():
            fails.append(False)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 1000), OFFSET)
    monkeypatch.setattr(os, "close", close)
    store.tick(time.monotonic() + 100)
    assert "quota" in store.trouble
    monkeypatch.undo()
    store.append("drops", numbered(1000, 1000), OFFSET)
    store.close("test")
    assert acks(tmp_path / "rec") == list(range(2000))


def test_a_file_that_may_not_grow_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 0.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        store = make_store(tmp_path / "rec")
        for first in range(0, 10_000, 1000):
            store.append("drops", numbered(first, 1000), OFFSET)
            store.tick()
        store.close("test")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert acks(tmp_path / "rec") == list(range(10_000))
    assert Manifest.read(tmp_path / "rec").losses == {}


def test_a_disk_that_does_not_answer_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone (ENOTCONN, ESTALE) says nothing of open files either."""
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 10), OFFSET)

    def gone(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    for name in "fstat", "lstat", "write":
        monkeypatch.setattr(os, name, gone)
    store.append("drops", numbered(10, 10), OFFSET)
    for second in 2, 4:
        store.tick(time.monotonic() + second)
    assert not store.gone
    assert "not connected" in store.trouble
    monkeypatch.undo()
    monkeypatch.setattr(os, "fstat", gone)  # its name is there again, what was open is not
    store.tick(time.monotonic() + 6)
    assert not store.gone
    monkeypatch.undo()
    store.append("drops", numbered(20, 10), OFFSET)
    store.close("test")
    assert acks(tmp_path / "rec") == list(range(30))


def test_a_folder_of_others_in_its_place_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 10), OFFSET)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    store.write_dictionary(REASONS.name, [REASON])
    store.append("totals", np.zeros(1, TOTALS.dtype), OFFSET)
    with store.update() as manifest:
        manifest.notes.append("something new")
    store.tick()
    store.close("test")
    assert list(folder.iterdir()) == []
    assert "deleted or moved" in store.trouble


def test_what_cannot_be_sealed_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_journal: Path, _started_ns: int) -> None:
        raise MemoryError("no memory")

    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 10), OFFSET)
    monkeypatch.setattr("droptape.recorder.jobs.seal_journal", fail)
    store.close("test")
    assert "no memory" in store.trouble
    assert any("no memory" in note for note in Manifest.read(tmp_path / "rec").notes)
    assert acks(tmp_path / "rec") == list(range(10))


def test_a_disk_that_syncs_no_folders_is_recorded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            _refuse(errno.EINVAL)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 100), OFFSET)
    store.close("test")
    assert store.trouble == ""
    assert acks(tmp_path / "rec") == list(range(100))


def test_the_reserve_takes_up_room_also_where_files_are_compressed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "rec").glob(reserve.PATTERN))
    assert len(zlib.compress(kept)) >= len(kept) > 0
    store.close("test")
    assert not list((tmp_path / "rec").glob(reserve.PATTERN))
