"""Names within a disk budget: what nothing needs any more goes, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from droptape.analyze import open_recording
from droptape.format.decode import rows_to_arrow
from droptape.format.manifest import Manifest
from droptape.format.tables import CGROUPS, NETNS_NAMES, PROCESSES, SYSCTLS
from droptape.recorder import names
from droptape.recorder.ledger import Ledger
from droptape.recorder.names import NamesJob, names_left
from droptape.recorder.recovery import recover
from droptape.recorder.store import Store

from .helpers import OFFSET, make_store, numbered, read_all, settle
from .test_recovery import check_whole

SECOND = 10**9
BEGIN = 10**15 + OFFSET
"""When the rows of `numbered` begin."""


def setting(at: int, value: int, netns: int = 7) -> dict[str, Any]:
    """A setting that was read `at` seconds before or after the events begin."""
    return {"ts": BEGIN + at * SECOND, "netns": netns, "name": "a", "value": str(value)}


def named(folder: Path, *settings: dict[str, Any], **options: Any) -> Store:
    """Return a store with a file for each of `settings`."""
    store = make_store(folder, **options)
    for number, row in enumerate(settings, start=1):
        store.write_dictionary("sysctls", [row])
        while len(Manifest.read(folder).segments) < number:
            store.tick()
    return store


def values(folder: Path) -> list[int]:
    return [int(value) for value in read_all(folder, "sysctls")["value"].to_pylist()]


def put_together(folder: Path) -> Manifest:
    NamesJob(Ledger(folder, Manifest.read(folder)), {}).run()
    return Manifest.read(folder)


def left(table: Any, column: str, *rows: dict[str, Any]) -> list[Any]:
    found = names_left(table, rows_to_arrow(table, rows), 100)
    return list(found[column].to_pylist())


def test_the_last_row_before_what_stays_and_all_after_it_stay() -> None:
    def read(netns: int, ts: int | None, value: str) -> dict[str, Any]:
        return {"netns": netns, "name": "a", "ts": ts, "value": value}

    rows = [read(1, 10, "a"), read(1, 99, "b"), read(1, 100, "c"), read(2, 5, "d")]
    assert left(SYSCTLS, "value", *rows) == ["b", "c", "d"]
    assert left(SYSCTLS, "value", read(1, None, "x"), *rows, *rows) == ["x", "b", "c", "d"]


def test_a_number_that_was_given_again() -> None:
    spaces = [{"inum": 1, "name": name, "since": at} for name, at in (("a", None), ("b", 50))]
    assert left(NETNS_NAMES, "name", *spaces) == ["b"]
    assert left(NETNS_NAMES, "name", spaces[0], spaces[1] | {"since": 101}) == ["a", "b"]
    pids = [{"pid": 1, "comm": comm, "started": 1, "seen": at} for comm, at in (("a", 2), ("b", 9))]
    assert left(PROCESSES, "comm", *pids) == ["b"]
    assert left(PROCESSES, "comm", *pids, pids[0] | {"pid": 2}) == ["b", "a"]


def test_control_groups_have_no_time_and_stay() -> None:
    groups = [{"id": 1, "path": "/a"}, {"id": 1, "path": "/b"}, {"id": 2, "path": "/a"}]
    assert left(CGROUPS, "path", *groups, *groups) == ["/a", "/b", "/a"]


@pytest.mark.parametrize("is_sealed", [True, False])
def test_files_are_put_together(tmp_path: Path, is_sealed: bool) -> None:
    """Also where the oldest events are still in a journal."""
    folder = tmp_path / "rec"
    store = named(folder, *(setting(20 * at, at) for at in (-3, -2, -1, 1)), setting(-60, 9, 8))
    store.append("drops", numbered(0, 10), OFFSET)
    if is_sealed:
        store.close("test")
    manifest = put_together(folder)
    assert sorted(values(folder)) == [-1, 1, 9]
    assert [s.file[:14] for s in manifest.segments if s.table == "sysctls"] == ["sysctls/000001"]
    removed = manifest.removed["sysctls"]
    assert (removed.through, removed.files, removed.rows) == (5, 4, 4)
    if is_sealed:
        check_whole(folder)
        with open_recording(folder) as rec:
            assert rec.problems == []
            assert rec.sources[0].complete_from is None
            assert rec.sql("SELECT count(*) FROM drops").fetchall() == [(10,)]
    else:
        store.close("test")


def test_a_file_that_is_not_written_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    named(folder, *(setting(-60 + at, at) for at in range(4))).close("test")
    manifest = Manifest.read(folder)
    (third,) = (s for s in manifest.segments if s.file.startswith("sysctls/000003"))
    manifest.segments.remove(third)
    manifest.write(folder)
    manifest = put_together(folder)
    assert manifest.removed["sysctls"].through == 2
    assert sorted(values(folder)) == [1, 2, 3]


def test_a_damaged_file_is_told_and_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    named(folder, *(setting(-60 + at, at, at) for at in range(1, 4))).close("test")
    next(folder.glob("sysctls/000001*")).write_bytes(b"")
    manifest = put_together(folder)
    assert [note for note in manifest.notes if "is damaged" in note] != []
    assert sorted(values(folder)) == [2, 3]
    check_whole(folder)


@pytest.mark.parametrize("saved", [True, False])
def test_a_kill_while_files_are_put_together(tmp_path: Path, saved: bool) -> None:
    folder = tmp_path / "rec"
    named(folder, *(setting(-60 + at, at) for at in range(4))).close("test")
    before = Manifest.read(folder)
    shutil.copytree(folder, tmp_path / "before")
    after = put_together(folder)
    for path in (tmp_path / "before/sysctls").glob("00000[2-9]*"):
        shutil.copy(path, folder / "sysctls")
    manifest = after if saved else before
    manifest.state, manifest.options = "recording", {"disk_budget": 1 << 30}
    manifest.write(folder)
    with open_recording(folder) as rec:
        assert rec.problems == []
    assert recover(folder).damage == []
    check_whole(folder)
    assert sorted(set(values(folder))) == ([3] if saved else [1, 2, 3])


def test_names_go_on_where_they_replace_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a rolling recording that says the same again and again little stays."""
    monkeypatch.setattr(names, "_FILES", 8)
    folder = tmp_path / "rec"
    store = make_store(folder, disk_budget=16 << 20)
    for at in range(20):
        store.write_dictionary("sysctls", [setting(at - 1000, at)])
        settle(store, folder)
        while store._unsent:
            store.tick()
    store.close("test")
    manifest = Manifest.read(folder)
    assert len(manifest.segments) < 16
    assert 19 in values(folder)
    assert 0 not in values(folder)
    check_whole(folder)
