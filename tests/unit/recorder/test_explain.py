"""Finding out what the numbers in events mean."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf.kinds import all_kinds
from droptape.format.manifest import Manifest
from droptape.recorder import explain
from droptape.recorder.explain import Explainer
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
