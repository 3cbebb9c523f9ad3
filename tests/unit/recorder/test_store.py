from __future__ import annotations

import errno
import json
import os
import stat
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.format import layout
from droptape.format.manifest import Manifest, sha256
from droptape.format.schema import Table
from droptape.format.tables import REASONS
from droptape.recorder.place import StoreError
from droptape.recorder.segment import describe, read_rows

from .helpers import OFFSET, acks, make_store, numbered, read_all, settle


def test_a_closed_recording_holds_every_row_once(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    for first in range(0, 5000, 500):
        store.append("drops", numbered(first, 500), OFFSET + first)
    store.close("the end of its duration")

    assert acks(folder) == list(range(5000))
    assert not list(folder.glob("*/*.journal"))
    assert not list(folder.rglob(".*"))
    assert not (folder / layout.LOCK).exists()
    manifest = Manifest.read(folder)
    assert (manifest.state, manifest.ended_by) == ("complete", "the end of its duration")
    (segment,) = manifest.segments
    path = folder / segment.file
    assert (segment.rows, segment.bytes) == (5000, path.stat().st_size)
    assert segment.sha256 == sha256(path)
    rows = read_all(folder)
    assert segment.first_ns == min(rows["ts_ns"].to_pylist())
    assert segment.last_ns == max(rows["ts_ns"].to_pylist())


def test_each_row_keeps_the_clock_offset_of_its_batch(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    first, second = numbered(0, 300), numbered(300, 300)
    store.append("drops", first, OFFSET)
    store.append("drops", second, OFFSET + 12345)
    store.close("test")

    times = np.concatenate([first["mono_ns"], second["mono_ns"]]).astype(np.int64) + OFFSET
    times[300:] += 12345
    rows = read_all(tmp_path / "rec").sort_by("ack")
    assert rows["ts_ns"].to_pylist() == times.tolist()


def test_values_survive_sealing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    records = numbered(0, 2000)
    store.append("drops", records, OFFSET)
    store.close("test")

    rows = read_all(tmp_path / "rec").sort_by("ack")
    for name in ("sport", "dport", "length", "cpu", "weight", "context_pid"):
        assert rows[name].to_pylist() == records[name].tolist()
    assert rows["saddr"].to_pylist() == [bytes(a) for a in records["saddr"]]
    assert rows["location"].to_pylist() == records["location"].view("i8").tolist()
    assert rows["ifname"].to_pylist() == [n.decode() for n in records["ifname"].tolist()]
    assert rows["reason"].to_pylist() == [f"REASON_{n}" for n in records["reason"].tolist()]
    pids = [pid or None for pid in records["owner_pid"].tolist()]
    assert rows["owner_pid"].to_pylist() == pids


def test_a_journal_is_sealed_when_it_is_large(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, rotate_bytes=20_000)
    for first in range(0, 6000, 1000):
        store.append("drops", numbered(first, 1000), OFFSET)
        store.tick()
    settle(store, folder, journals=1)
    sealed = [s for s in layout.segments(folder, "drops") if s.sealed]
    assert len(sealed) >= 3
    assert acks(folder) == list(range(6000))
    store.close("test")
    assert [s.sequence for s in layout.segments(folder, "drops")] == list(
        range(1, len(Manifest.read(folder).segments) + 1)
    )


def test_a_journal_is_sealed_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, rotate_seconds=60)
    store.append("drops", numbered(0, 10), OFFSET)
    store.tick(time.monotonic() + 59)
    assert list(folder.glob("drops/*.journal"))
    store.tick(time.monotonic() + 61)
    settle(store, folder)
    assert acks(folder) == list(range(10))
    assert [s.rows for s in Manifest.read(folder).segments] == [10]
    store.close("test")


def test_rows_are_readable_and_the_folder_is_locked_while_recording(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 100), OFFSET)
    assert acks(folder) == list(range(100))
    assert layout.being_recorded(folder)
    assert Manifest.read(folder).state == "recording"
    store.close("test")
    assert not layout.being_recorded(folder)


def test_the_folder_is_private(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 10), OFFSET)
    store.close("test")
    for path in [tmp_path / "rec", *(tmp_path / "rec").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o027, path


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/mine").write_text("x")
    with pytest.raises(StoreError, match="exists already"):
        make_store(tmp_path / "rec")
    assert (tmp_path / "rec/mine").read_text() == "x"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="exists already"):
        make_store(tmp_path / "link")


def test_a_missing_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a folder"):
        make_store(tmp_path / "no/rec")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not UTF-8"):
        make_store(tmp_path / "n\udcff1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_time_as_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("load-12:30")
    store = make_store(folder)
    store.append("drops", numbered(0, 100), OFFSET)
    store.close("test")
    assert (store.trouble, Manifest.read(folder).notes) == ("", [])
    (path,) = folder.glob("drops/*.parquet")
    assert describe(path).rows == read_rows(path, store._tables["drops"]).num_rows == 100


def test_a_folder_that_cannot_be_filled_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("droptape.recorder.ledger.write_atomic", full)
    with pytest.raises(StoreError, match="No space left"):
        make_store(tmp_path / "rec")
    assert not list(tmp_path.iterdir())


def test_dictionaries_are_written_one_file_per_call(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    row = {"enum": "skb_drop_reason", "value": 2, "name": "NOT_SPECIFIED", "subsystem": "core"}
    store.write_dictionary("reasons", [row])
    store.write_dictionary(
        "reasons", pa.Table.from_pylist([row | {"value": 3}], REASONS.arrow_schema)
    )
    store.write_dictionary("reasons", [])
    store.close("test")
    segments = layout.segments(tmp_path / "rec", "reasons")
    assert [s.sequence for s in segments] == [1, 2]
    assert sorted(read_all(tmp_path / "rec", "reasons")["value"].to_pylist()) == [2, 3]
    manifest = Manifest.read(tmp_path / "rec")
    assert sorted(s.file for s in manifest.segments) == [f"reasons/{s.path.name}" for s in segments]


def test_changes_of_the_manifest_reach_the_disk(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    with store.update() as manifest:
        manifest.notes.append("a note")
    deadline = time.monotonic() + 10
    while "a note" not in Manifest.read(tmp_path / "rec").notes:
        assert time.monotonic() < deadline
        store.tick(time.monotonic() + 5)
        time.sleep(0.01)
    store.close("test")


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 1000), OFFSET)
    store.close("test")
    (segment,) = layout.segments(tmp_path / "rec", "drops")
    found = pq.read_metadata(segment.path)
    declared = Table.from_json(json.loads(found.metadata[b"droptape.table"]))
    assert declared["reason"].enum is not None
    assert declared["reason"].enum.values[7] == "REASON_7"
    schema = pq.read_schema(segment.path)
    assert schema.field("owner_comm").type == pa.string()
    assert schema.field("saddr").type == pa.binary(16)
    assert b"source address" in schema.field("saddr").metadata[b"doc"]
    column = {c.path_in_schema: c for c in (found.row_group(0).column(i) for i in range(27))}
    assert "DELTA_BINARY_PACKED" in column["ts_ns"].encodings
    assert "RLE_DICTIONARY" not in column["seq"].encodings
    assert "RLE_DICTIONARY" in column["owner_comm"].encodings
    assert column["saddr"].compression == "ZSTD"


def test_a_flipped_bit_in_a_page_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    store.append("drops", numbered(0, 3000), OFFSET)
    store.close("test")
    (segment,) = layout.segments(tmp_path / "rec", "drops")
    data = bytearray(segment.path.read_bytes())
    at = pq.read_metadata(segment.path).row_group(0).column(0).data_page_offset + 200
    data[at] ^= 1
    segment.path.write_bytes(data)
    with pytest.raises(OSError, match=r"checksum|CRC"):
        pq.ParquetFile(segment.path, page_checksum_verification=True).read()


def test_where_little_happens_a_rolling_recording_has_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def files(disk_budget: int | None) -> int:
        folder = tmp_path / f"rec{disk_budget}"
        store = make_store(folder, rotate_seconds=1.0, disk_budget=disk_budget)
        for second in range(0, 80, 2):
            clock[0] += 2
            store.append("drops", numbered(second, 1), OFFSET)
            store.tick()
        store.close("test")
        return sum(1 for s in Manifest.read(folder).segments if s.table == "drops")

    assert files(None) == 20
    assert files(1 << 30) == 3
