"""Names that no row of a rolling recording needs any more."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf.kinds import all_kinds
from droptape.format.manifest import Manifest
from droptape.format.tables import CGROUPS, PROCESSES
from droptape.recorder import explain, names
from droptape.recorder.explain import Explainer
from droptape.recorder.ledger import Ledger
from droptape.recorder.names import NamesJob, Search
from droptape.recorder.store import Store

from .helpers import OFFSET, make_store, numbered, read_all, settle
from .test_names import BEGIN, SECOND

DROPS = all_kinds()["drops"].table


def learned(store: Store, *numbers: int) -> None:
    """Write names of processes and groups, seen long before the events begin."""
    for number in numbers:
        process = {"pid": number, "comm": "a", "seen": BEGIN - 60 * SECOND}
        store.write_dictionary(PROCESSES.name, [process])
        store.write_dictionary(CGROUPS.name, [{"id": number, "path": "/a", "source": "socket"}])


def of(store: Store, **numbers: int) -> None:
    records = numbered(0, 10)
    for column in ("owner_pid", "context_pid", "cgroup_id"):
        records[column] = numbers.get(column, 0)
    store.append("drops", records, OFFSET)


def kept(folder: Path) -> tuple[list[int], list[int]]:
    return tuple(
        sorted(read_all(folder, table)[column].to_pylist())
        for table, column in ((PROCESSES.name, "pid"), (CGROUPS.name, "id"))
    )  # type: ignore[return-value]


def test_what_rows_name_stays_also_in_a_journal(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, disk_budget=1 << 30, rotate_bytes=1)
    learned(store, 1, 2, 3, 4, 2**40)
    of(store, owner_pid=1, cgroup_id=2**40)
    of(store, context_pid=2, cgroup_id=3)
    settle(store, folder)
    store._rotate_bytes = 1 << 20
    of(store, owner_pid=4)
    while len(Manifest.read(folder).segments) < 10 + 2:
        store.tick()
    search = Search()
    NamesJob(store._ledger, {}, search).run()
    assert kept(folder) == ([1, 2, 4], [3, 2**40])
    gone = [("processes", 3), ("processes", 2**40)] + [("cgroups", i) for i in (1, 2, 4)]
    assert sorted(search.gone) == sorted(gone)
    store.close("test")


def test_nothing_goes_where_a_file_does_not_tell(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, disk_budget=1 << 30)
    learned(store, 1, 2)
    of(store, owner_pid=1)
    store.close("test")
    (path,) = folder.glob("drops/*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    search = Search()
    NamesJob(Ledger(folder, Manifest.read(folder)), {}, search).run()
    assert kept(folder) == ([1, 2], [1, 2])
    assert not search.gone


def test_ever_new_names_do_not_fill_a_rolling_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_FOR_NAMES", 40_000 / (16 << 20))
    monkeypatch.setattr(names, "_PRESSING", 0.25)
    monkeypatch.setattr(names, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(names, "_LONGEST_WAIT_S", 0.0)
    monkeypatch.setattr(names, "_SHARE", 1.0)
    folder = tmp_path / "rec"
    store = make_store(folder, disk_budget=16 << 20)
    of(store, owner_pid=7)
    for first in range(0, 3000, 100):
        many = range(first, first + 100)
        rows = [{"id": i, "path": os.urandom(20).hex(), "source": "socket"} for i in many]
        store.write_dictionary(CGROUPS.name, rows)
        while store._unsent or not store._worker._queue.empty():
            store.tick()
    store.close("test")
    assert not any(note == names.NO_MORE_NAMES for note in Manifest.read(folder).notes)
    assert 2999 in read_all(folder, CGROUPS.name)["id"].to_pylist()


def test_what_went_is_written_again_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"pid": 7, "comm": "a", "exe": "/a", "uid": 0, "started": 1, "seen": 1}
    monkeypatch.setattr(explain, "is_initial", lambda: True)
    monkeypatch.setattr(explain, "process_row", lambda pid: row)
    monkeypatch.setattr(explain, "_KEEP_S", dict.fromkeys(explain._KEEP_S, 0.0))
    store = make_store(tmp_path / "rec", disk_budget=1 << 30)
    explainer = Explainer(store)
    records = np.zeros(1, DROPS.dtype)
    records["owner_pid"] = 7
    for went in (False, False, True):
        assert store._names is not None
        store._names.search.gone.extend([("processes", 7), ("cgroups", 5)] if went else [])
        explainer.watch(DROPS, records, 0)
        explainer.look_up()
    explainer.write(now=True)
    store.close("test")
    assert read_all(tmp_path / "rec", PROCESSES.name)["pid"].to_pylist() == [7, 7]
