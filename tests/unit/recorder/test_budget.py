"""What `--disk-budget` removes, what it keeps, and what it says."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from droptape.format.layout import segments, sequence_of
from droptape.format.manifest import Clock, Manifest
from droptape.format.tables import COUNTERS, LISTENERS
from droptape.recorder.budget import TrimJob, filled, used_bytes
from droptape.recorder.ledger import Ledger
from droptape.recorder.options import UsageError, parse_budget
from droptape.recorder.recovery import recover
from droptape.recorder.store import Store

from .helpers import OFFSET, acks, make_store, numbered, read_all, settle
from .test_recovery import check_whole

REASON = {"enum": "skb_drop_reason", "value": 2, "name": "NOT_SPECIFIED", "subsystem": "core"}
SECOND = 10**9


def counters(*rows: tuple[int, int, str, int]) -> Any:
    """Rows of (second, netns, name, value)."""
    out = np.zeros(len(rows), COUNTERS.dtype)
    for record, (second, netns, name, value) in zip(out, rows, strict=True):
        record["mono_ns"], record["netns"] = 10**15 + second * SECOND, netns
        record["name"], record["value"] = name.encode(), value
    return out


def listeners(*rows: tuple[int, int, int, bool]) -> Any:
    """Rows of (second, inode, accept queue, open)."""
    out = np.zeros(len(rows), LISTENERS.dtype)
    for record, (second, inode, queue, is_open) in zip(out, rows, strict=True):
        record["mono_ns"], record["inode"] = 10**15 + second * SECOND, inode
        record["accept_queue"], record["open"], record["netns"] = queue, is_open, 1
    return out


def on_disk(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file()]
    total = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def sealed(store: Store, folder: Path, table: str, *parts: Any) -> None:
    """Write each part as a segment of its own."""
    for part in parts:
        store.append(table, part, OFFSET)
        store.tick(time.monotonic() + 100)
        settle(store, folder)


def trimmed(folder: Path, budget: int) -> Manifest:
    ledger = Ledger(folder, Manifest.read(folder))
    TrimJob(ledger, budget).run()
    return Manifest.read(folder)


def test_the_oldest_go_and_the_manifest_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.write_dictionary("reasons", [REASON])
    sealed(store, folder, "drops", *(numbered(first, 4000) for first in range(0, 24_000, 4000)))
    store.close("test")
    all_files = Manifest.read(folder).segments
    budget = int(used_bytes(Ledger(folder, Manifest.read(folder))) * 0.6)
    manifest = trimmed(folder, budget)

    removed = manifest.removed["drops"]
    assert 1 <= removed.files <= 4
    assert removed.through == removed.files
    assert removed.rows == 4000 * removed.files
    gone = [s for s in all_files if s.table == "drops"][: removed.files]
    assert removed.bytes == sum(s.bytes for s in gone)
    assert (removed.first_ns, removed.last_ns) == (gone[0].first_ns, gone[-1].last_ns)
    assert acks(folder) == list(range(removed.rows, 24_000))
    assert used_bytes(Ledger(folder, manifest)) <= budget
    assert [s.sequence for s in segments(folder, "reasons")] == [1]
    check_whole(folder)


def test_a_running_store_stays_within_its_budget(tmp_path: Path) -> None:
    folder, budget = tmp_path / "rec", 1 << 20
    store = make_store(folder, disk_budget=budget)
    for first in range(0, 120_000, 2000):
        store.append("drops", numbered(first, 2000), OFFSET)
        store.tick(time.monotonic() + first)
        settle(store, folder, journals=1)
        # What is too much goes in the background, soon.
        deadline = time.monotonic() + 20
        while on_disk(folder) >= budget:
            assert time.monotonic() < deadline
            store.tick()
            time.sleep(0.01)
    store.close("test")
    assert on_disk(folder) < budget
    kept = acks(folder)
    assert kept == list(range(kept[0], 120_000))
    assert Manifest.read(folder).removed["drops"].rows == kept[0] > 0
    check_whole(folder)


def test_a_flood_between_two_ticks_does_not_outgrow_a_small_budget(tmp_path: Path) -> None:
    folder, budget = tmp_path / "rec", 1 << 20
    store = make_store(folder, disk_budget=budget)
    largest = 0
    for first in range(0, 60_000, 2000):
        store.append("drops", numbered(first, 2000), OFFSET)
        for journal in folder.glob("drops/*.journal"):
            with contextlib.suppress(FileNotFoundError):  # sealed
                largest = max(largest, journal.stat().st_size)
    assert largest < budget / 4
    store.close("test")
    assert on_disk(folder) < budget
    check_whole(folder)


def test_a_small_budget_leaves_room_for_what_comes_at_once() -> None:
    assert filled(16 << 20) == 12 << 20
    assert filled(1 << 30) == 0.9 * (1 << 30)


def test_what_was_true_when_the_rest_begins_stays(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    sealed(
        store, folder, "counters",
        counters((1, 7, "a", 1), (1, 8, "a", 1), (1, 7, "netns.life", 1), (1, 8, "netns.life", 1),
                 (2, 7, "a", 5), (2, 8, "a", 6), (2, 0, "softnet.dropped", 3)),
        counters((3, 7, "b", 2), (4, 8, "netns.life", 1)),
        counters((9, 7, "a", 9)),
    )  # fmt: skip
    sealed(
        store, folder, "listeners",
        listeners((1, 70, 0, True), (1, 71, 0, True), (2, 70, 4, True), (3, 71, 0, False)),
        listeners((9, 70, 5, True)),
    )  # fmt: skip
    store.close("test")
    manifest = trimmed(folder, 0)
    assert {name: part.through for name, part in manifest.removed.items()} == {
        "counters": 3,
        "listeners": 2,
    }
    check_whole(folder)
    values = sorted(
        (row["netns"] or 0, row["name"], row["value"])
        for row in read_all(folder, "counters").to_pylist()
    )
    assert values == [(0, "softnet.dropped", 3), (7, "a", 9), (7, "b", 2), (7, "netns.life", 1)]
    left = read_all(folder, "listeners").to_pylist()
    assert [(row["inode"], row["accept_queue"]) for row in left] == [(70, 5)]


@pytest.mark.parametrize("how", ["gone", "damaged"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path, number: int, how: str) -> None:
    """The first is what was kept of an earlier one, the second the next to go."""
    folder = tmp_path / "rec"
    store = make_store(folder)
    parts = [counters((n, 7, f"c{n}", n)) for n in (1, 2, 3)]
    sealed(store, folder, "counters", parts[0])
    sealed(store, folder, "drops", numbered(1_500_000, 1000))
    sealed(store, folder, "counters", *parts[1:])
    store.close("test")
    first = next(s for s in Manifest.read(folder).segments if s.table == "counters")
    trimmed(folder, int((used_bytes(Ledger(folder, Manifest.read(folder))) - 1) / 0.9))
    assert Manifest.read(folder).removed["counters"].through == sequence_of(first.file)
    path = segments(folder, "counters")[number - 1].path
    if how == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[10:60] = bytes(50)
        path.write_bytes(data)

    manifest = trimmed(folder, 0)
    assert [note for note in manifest.notes if f"{path} is {how}" in note] != []
    assert manifest.removed["counters"].through == 3
    assert "drops" in manifest.removed
    values = {row["value"] for row in read_all(folder, "counters").to_pylist()}
    assert values == {1, 2, 3} - {number}
    check_whole(folder)


def test_counters_of_devices_that_went_do_not_stay(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    first = counters((1, 7, "link.rx_dropped", 3), (1, 7, "link.rx_dropped", 4), (1, 7, "a", 0))
    first["device"] = b"veth0", b"veth1", b""
    second = counters((2, 7, "link.rx_dropped", 0))
    second["device"] = b"veth0"
    sealed(store, folder, "counters", first, second)
    store.close("test")
    trimmed(folder, 0)
    check_whole(folder)
    left = read_all(folder, "counters").to_pylist()
    assert sorted((row["device"] or "", row["value"]) for row in left) == [("", 0), ("veth1", 4)]


def test_a_kill_while_removing_leaves_nothing_unexplained(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    sealed(store, folder, "drops", numbered(0, 1000), numbered(1000, 1000), numbered(2000, 1000))
    sealed(store, folder, "counters", counters((1, 7, "a", 1)), counters((2, 7, "a", 2)))
    store.close("test")
    shutil.copytree(folder, tmp_path / "before")
    manifest = trimmed(folder, 0)
    # Nothing was unlinked yet, and of the counters' segment not even the manifest knew.
    manifest.state = "recording"
    manifest.options["disk_budget"] = 1
    kept = Manifest.read(tmp_path / "before").segments
    manifest.segments = [s for s in kept if s.table == "counters"]
    del manifest.removed["counters"]
    manifest.write(folder)
    for path in (tmp_path / "before/drops").iterdir():
        shutil.copy(path, folder / "drops")
    shutil.copy(next((tmp_path / "before/counters").glob("000001*")), folder / "counters")
    assert recover(folder).killed
    assert acks(folder) == []
    check_whole(folder)


def test_what_may_not_be_removed_now_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that was made read-only for a while; its files count for no budget."""
    folder = tmp_path / "rec"
    store = make_store(folder)
    sealed(store, folder, "drops", *(numbered(first, 1000) for first in range(0, 3000, 1000)))
    store.close("test")
    ledger = Ledger(folder, Manifest.read(folder))
    first, second = TrimJob(ledger, 0), TrimJob(ledger, 0)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        for job in first, second, first:
            with pytest.raises(PermissionError):
                job.run()
    assert len(list(folder.glob("drops/*.parquet"))) == 3
    second.run()
    assert not list(folder.glob("drops/*.parquet"))
    check_whole(folder)


def test_a_clock_that_ran_ahead_changes_no_order(tmp_path: Path) -> None:
    """What it dated decades ahead goes first all the same, and ends where the rest begins."""
    folder, ahead = tmp_path / "rec", 40 * 365 * 86_400 * SECOND
    store = make_store(folder)
    with store.update() as manifest:
        noticed = 10**15 + SECOND
        manifest.clocks = [
            Clock(10**15, 10**15 + OFFSET + ahead),
            Clock(noticed, noticed + OFFSET),
        ]
    store.append("drops", numbered(0, 1000), OFFSET + ahead)
    store.tick(time.monotonic() + 100)
    settle(store, folder)
    sealed(store, folder, "counters", counters((5, 7, "a", 1)))
    sealed(store, folder, "drops", numbered(9_000_000, 1000))
    store.close("test")
    used = used_bytes(Ledger(folder, Manifest.read(folder)))
    manifest = trimmed(folder, int((used - 1) / 0.9))
    assert list(manifest.removed) == ["drops"]
    assert manifest.removed["drops"].last_ns == 10**15 + OFFSET + 999_000


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.write_dictionary("reasons", [REASON])
    store.close("test")
    manifest = trimmed(folder, 100)
    assert manifest.notes == ["the disk budget is less than what has to stay needs"]
    assert pq.read_table(segments(folder, "reasons")[0].path).num_rows == 1


def test_the_budget_has_a_least_size() -> None:
    assert parse_budget("2GB") == 2 << 30
    with pytest.raises(UsageError, match="16MB or more"):
        parse_budget("15MB")


def test_numbers_of_files() -> None:
    assert sequence_of("drops/000012-20261121T000000Z.parquet") == 12
    assert sequence_of("drops/.000012-20261121T000000Z.parquet") == 0


def gone(store: Store) -> int:
    """Return how many files of processes were put into others."""
    with store._ledger.change(quiet=True) as manifest:
        removed = manifest.removed.get("processes")
    return removed.files if removed else 0


def test_names_leave_room_for_what_they_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still_named = {"processes": set(range(60_000))}
    monkeypatch.setattr("droptape.recorder.names.needed", lambda _: still_named)
    folder, budget = tmp_path / "rec", 2 << 20
    store = make_store(folder, disk_budget=budget)
    rng = np.random.default_rng(1)
    for first in range(0, 60_000, 3000):
        rows = [
            {"pid": pid, "comm": rng.bytes(8).hex(), "exe": rng.bytes(16).hex()}
            for pid in range(first, first + 3000)
        ]
        store.write_dictionary("processes", rows)
        deadline = time.monotonic() + 20
        while len(segments(folder, "processes")) + gone(store) < store._sequence["processes"]:
            assert time.monotonic() < deadline
            store.tick()
            time.sleep(0.001)
    store.close("test")
    names = sum(s.bytes for s in Manifest.read(folder).segments if s.table == "processes")
    assert budget / 5 < names < budget / 2
    assert [n for n in Manifest.read(folder).notes if "take a quarter" in n] != []
