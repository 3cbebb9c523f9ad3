"""Finding out what the numbers in events mean."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.format.manifest import Manifest
from droptape.format.schema import Table
from droptape.format.tables import COUNTERS, SYSCTLS
from droptape.recorder import explain, lives
from droptape.recorder.explain import Explainer
from droptape.recorder.kallsyms import Symbols
from droptape.recorder.netns import NetnsNames
from droptape.recorder.sampling.sampler import Sampler
from droptape.recorder.seen import Seen
from unit.recorder.helpers import make_store, read_all

DROPS = all_kinds()["drops"].table


def test_rows_that_cannot_be_written_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "is_initial", lambda: True)
    monkeypatch.setattr(explain, "process_row", lambda pid: {"pid": pid, "comm": 7})
    store = make_store(tmp_path / "rec")
    explainer = Explainer(store)
    records = np.zeros(1, DROPS.dtype)
    records["owner_pid"], records["netns"] = 7, 12
    explainer.watch(DROPS, records, 0)
    explainer.look_up()
    explainer.write(now=True)
    store.close("test")
    (note,) = Manifest.read(tmp_path / "rec").notes
    assert note.startswith("1 rows of processes were not written: ")
    assert read_all(tmp_path / "rec", "netns")["inum"].to_pylist() == [12]


def test_in_another_pid_namespace_no_process_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "is_initial", lambda: False)
    store = make_store(tmp_path / "rec")
    explainer = Explainer(store)
    records = np.zeros(1, DROPS.dtype)
    records["owner_pid"] = os.getpid()
    explainer.watch(DROPS, records, 0)
    explainer.look_up()
    explainer.write(now=True)
    store.close("test")
    (note,) = Manifest.read(tmp_path / "rec").notes
    assert "initial pid namespace" in note
    assert not (tmp_path / "rec/processes").exists()


def watch(explainer: Explainer, table: Table, **values: object) -> None:
    """Show the explainer one record."""
    records = np.zeros(1, table.dtype)
    for name, value in values.items():
        records[name] = value
    explainer.watch(table, records, 0)
    explainer.look_up()


def test_a_number_that_is_given_again_has_a_row_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[dict[str, object]] = []
    monkeypatch.setattr(NetnsNames, "rows", lambda self, inums: current)
    store = make_store(tmp_path / "rec")
    explainer = Explainer(store)
    named = {"inum": 12, "pid": 7, "since": None}
    current[:] = [{**named, "name": "blue"}]
    watch(explainer, DROPS, netns=12)
    current[:] = [{**named, "name": "red"}]
    watch(explainer, DROPS, netns=12)
    life = {"netns": 12, "name": b"netns.life"}
    watch(explainer, COUNTERS, **life, value=1)
    before = time.time_ns()
    watch(explainer, COUNTERS, **life, value=2)
    current[:] = [{**named, "name": "green", "since": 10**18}]
    watch(explainer, COUNTERS, **life, value=3)
    explainer.write(now=True)
    store.close("test")
    rows = read_all(tmp_path / "rec", "netns").to_pylist()
    assert [row["name"] for row in rows] == ["blue", None, "red", "green"]
    since = [row["since_ns"] for row in rows]
    assert since[0] is None
    assert since[1] < before < since[2] < time.time_ns()
    assert since[3] == 10**18


def test_a_name_ends_where_it_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the number next may be gone before it is looked up."""
    named = tmp_path / "named"
    named.mkdir()
    (named / "blue").touch()
    inum = (named / "blue").stat().st_ino
    names = NetnsNames(tmp_path / "proc", (named,))
    monkeypatch.setattr(explain, "NetnsNames", lambda **_: names)
    explainer = Explainer(make_store(tmp_path / "rec"))
    watch(explainer, DROPS, netns=inum)
    unlisted = Path.iterdir

    def closed(self: Path) -> Iterator[Path]:
        if self == named:
            raise PermissionError
        return unlisted(self)

    (tmp_path / "kept").hardlink_to(named / "blue")
    (named / "blue").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", closed)
        explainer.look_up()  # what cannot be listed says nothing
    assert [row["name"] for row in explainer._rows["netns"]] == ["blue"]
    (named / "other").touch()
    before = time.time_ns()
    for _ in range(2):
        explainer.look_up()
    time.sleep(0.02)  # more than the clock of files takes for a step
    (named / "red").hardlink_to(tmp_path / "kept")
    explainer.look_up()
    rows = explainer._rows["netns"]
    assert [row["name"] for row in rows] == ["blue", None, "red"]
    assert before < int(str(rows[1]["since"])) < int(str(rows[2]["since"]))


def test_an_id_of_another_process_has_a_row_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: dict[str, object] = {"pid": 7, "exe": None, "uid": 0}
    monkeypatch.setattr(explain, "is_initial", lambda: True)
    monkeypatch.setattr(explain, "process_row", lambda pid: dict(current))
    store = make_store(tmp_path / "rec")
    explainer = Explainer(store)
    for comm, started in ("sh", 0), ("sh", 10**12), ("cat", 10**12), ("cat", 10**12 + 5):
        current |= {"comm": comm, "started": started}
        watch(explainer, DROPS, owner_pid=7, owner_comm=comm.encode())
    explainer.write(now=True)
    store.close("test")
    rows = read_all(tmp_path / "rec", "processes").to_pylist()
    assert [(row["comm"], row["started_ns"]) for row in rows] == [("sh", 0), ("cat", 10**12)]


def test_what_is_remembered_is_forgotten_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    seen = Seen(60.0, most=3)
    assert seen.new({1, 2}) == {1, 2}
    assert seen.new({2, 3}) == {3}
    seen.forget(2)
    assert seen.new({2, 3}) == {2}
    now = 61.0
    assert seen.new({1, 4, 5, 6}) == {1, 4, 5, 6}
    assert seen.new({4}) == {4}


def test_the_memory_of_processes_and_namespaces_has_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lives, "_MOST", 10)
    processes, spaces = lives.ProcessLives(), lives.NamespaceLives()
    for number in range(100):
        row = {"pid": number, "started": 1, "inum": number, "name": "x", "since": None}
        assert processes.news(row) == [row]
        assert spaces.news(row) == [row]
        assert processes.news(row) == spaces.news(row) == []
    assert len(spaces.names) <= 10


def settings(netns: int, rows: int = 1) -> list[dict[str, object]]:
    return [{"ts": 1, "netns": netns, "name": f"n{i}", "value": "1"} for i in range(rows)]


def files_of(folder: Path, table: str) -> int:
    return sum(segment.table == table for segment in Manifest.read(folder).segments)


def test_settings_of_ever_new_namespaces_take_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(explain, "loaded_modules", lambda: str(now))
    monkeypatch.setattr(Symbols, "load", lambda: Symbols("none"))
    wrote: list[str] = []
    sampler = Sampler(Loaded([], [], [], 1, 1), lambda *_: None)
    store = make_store(tmp_path / "rec")
    monkeypatch.setattr(store, "write_dictionary", lambda table, rows: wrote.append(table))
    explainer = Explainer(store)
    for second in range(1000):
        now = float(second)
        sampler._taken.append((SYSCTLS, settings(second)))
        sampler.deliver(store, 0, explainer.learn_settings)
        explainer.look_up()
        explainer.write()
    store.discard()
    assert 8 <= wrote.count("sysctls") <= 11
    assert 8 <= wrote.count("symbols") <= 11


def test_much_to_write_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "_MOST_ROWS", 30)
    store = make_store(tmp_path / "rec")
    explainer = Explainer(store)
    for number in range(10):
        explainer.learn_settings(settings(number, 10))
        explainer.write()
    explainer.write(now=True)
    store.close("test")
    assert files_of(tmp_path / "rec", "sysctls") == 4  # at once, then of 30 rows each
    assert read_all(tmp_path / "rec", "sysctls").num_rows == 100
