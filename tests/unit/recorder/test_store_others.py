"""What others do to the files of a running recording, and what becomes of the rows."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from droptape.format.layout import LOCK, being_recorded
from droptape.format.manifest import Manifest
from droptape.recorder.lock import FolderLock, LockedError
from droptape.recorder.recovery import recover

from .helpers import OFFSET, acks, make_store, numbered, wait_for_trouble


@pytest.mark.parametrize("what", ["journal", "table"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_deleted_journal_costs_nothing(tmp_path: Path, what: str, *, seen: bool) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 10), OFFSET)
    journal = next(folder.glob("drops/*.journal"))
    if what == "table":
        shutil.rmtree(folder / "drops")
    else:
        journal.unlink()
    if seen:  # otherwise it is found when it is to be sealed
        for second in 2, 4:
            store.tick(time.monotonic() + second)
    store.append("drops", numbered(10, 10), OFFSET)
    store.close("test")
    assert acks(folder) == list(range(20))
    manifest = Manifest.read(folder)
    assert [note for note in manifest.notes if "its rows are not lost" in note]
    assert manifest.state == "complete"
    assert len(list(folder.glob("drops/*.parquet"))) == 1 + seen


def test_the_rows_of_a_renamed_journal_are_there_once(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 10), OFFSET)
    journal = next(folder.glob("drops/*.journal"))
    journal.rename(journal.with_name("000900" + journal.name[6:]))
    for second in 2, 4:
        store.tick(time.monotonic() + second)
    store.close("test")
    assert any("10 rows" in note for note in Manifest.read(folder).notes)
    assert acks(folder) == list(range(10))
    recover(folder)
    assert acks(folder) == list(range(10))


def test_a_deleted_journal_that_cannot_be_written_anew_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("drops", numbered(0, 10), OFFSET)
    journal = next(folder.glob("drops/*.journal"))
    shutil.rmtree(journal.parent)
    journal.parent.touch()
    for second in 2, 4:
        store.tick(time.monotonic() + second)
    wait_for_trouble(store, "exists")
    journal.parent.unlink()
    store.tick(time.monotonic() + 6)
    store.append("drops", numbered(10, 10), OFFSET)
    store.close("test")
    assert acks(folder) == list(range(10, 20))
    told = re.compile(r"drops/0.*journal was deleted .*10 rows")
    assert len([note for note in Manifest.read(folder).notes if told.fullmatch(note)]) == 1


@pytest.mark.parametrize("to", [0, 0.5, -100])
def test_a_journal_that_somebody_cuts_is_told(tmp_path: Path, to: float) -> None:
    store = make_store(tmp_path / "rec")
    for first in range(0, 3000, 500):
        store.append("drops", numbered(first, 500), OFFSET)
    (journal,) = (tmp_path / "rec/drops").glob("*.journal")
    size = journal.stat().st_size
    os.truncate(journal, int(to) + size if to < 0 else int(to * size))
    store.append("drops", numbered(3000, 500), OFFSET)
    store.close("test")
    assert "was damaged by another program: " in store.trouble
    manifest = Manifest.read(tmp_path / "rec")
    assert list(manifest.damaged) == [f"drops/{journal.name}"]
    assert len(manifest.notes) == 1
    rows = acks(tmp_path / "rec")
    assert len(rows) < 3500
    assert rows == sorted(set(rows))
    if to:
        assert rows[-1] == 3499


def test_a_deleted_lock_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    (folder / LOCK).unlink()
    assert not being_recorded(folder)
    store.tick(time.monotonic() + 2)
    assert not (folder / LOCK).exists()  # all of the folder may be going
    store.tick(time.monotonic() + 4)
    assert not store.gone
    assert being_recorded(folder)
    with pytest.raises(LockedError):
        recover(folder)
    store.append("drops", numbered(0, 10), OFFSET)
    store.close("test")
    assert acks(folder) == list(range(10))
    assert not (folder / LOCK).exists()


def test_a_lock_that_somebody_else_took_is_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    (folder / LOCK).unlink()
    other = FolderLock(folder)
    for second in 2, 4:
        store.tick(time.monotonic() + second)
    assert store.gone
    store.close("test")
    assert other.intact()
    other.release()
