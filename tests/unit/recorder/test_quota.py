"""A disk that is full for long, and one like Btrfs with a quota, which then cuts no file off."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from droptape.format.manifest import Manifest
from droptape.recorder import store as store_module
from droptape.recorder import worker
from droptape.recorder.store import Store

from .helpers import OFFSET, acks, make_store, numbered, read_all


class Quota:
    """Refuses writes and cuts once it is used up, as Btrfs does; removing a file gives room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.used_up = False
        self._folder = folder
        self._write = os.write
        for name in ("write", "truncate", "ftruncate"):
            monkeypatch.setattr(os, name, self._refusing(name))

    def _refusing(self, name: str) -> object:
        real = getattr(os, name)

        def call(file: int, argument: object) -> int:
            if self.used_up and len(list(self._folder.glob(".reserve*"))) == 2:
                if name == "write" and len(argument) > 5000:  # type: ignore[arg-type]
                    return int(real(file, argument[:4096]))  # type: ignore[index]
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            return int(real(file, argument) or 0)

        return call


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(worker, "_RETRY_SECONDS", 0.0)


def test_the_account_is_written_where_no_file_can_be_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder, memory_bytes=20_000)
    quota = Quota(monkeypatch, folder)
    store.append("drops", numbered(0, 500), OFFSET)
    quota.used_up = True
    for first in range(500, 5000, 500):
        store.append("drops", numbered(first, 500), OFFSET)
    store.close("test")
    assert store.lost == 4500
    assert sum(read_all(folder, "losses")["events"].to_pylist()) == 4500
    assert acks(folder) == list(range(500))
    assert Manifest.read(folder).state == "complete"
    assert not list(folder.rglob(".*"))


def test_a_frame_that_was_cut_short_and_written_again_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    quota = Quota(monkeypatch, folder)
    store.append("drops", numbered(0, 500), OFFSET)
    quota.used_up = True
    store.append("drops", numbered(500, 500), OFFSET)
    (journal,) = folder.glob("drops/*.journal")
    assert journal.stat().st_size > store.bytes  # part of a frame
    quota.used_up = False
    store.append("drops", numbered(1000, 500), OFFSET)
    store.close("test")
    assert store.trouble == ""
    assert acks(folder) == list(range(1500))
    assert Manifest.read(folder).notes == []
    assert not list(folder.rglob("*.damaged"))


def refused_names(folder: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> Store:
    """Return a store that was given `files` files of names, which the disk does not take."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("droptape.recorder.segment.write_all", refuse)
    store = make_store(folder)
    for number in range(files):
        row = {"ts": OFFSET, "netns": number, "name": "a", "value": "x" * 1000}
        store.write_dictionary("sysctls", [row])
        store.tick()
    return store


def test_names_that_a_full_disk_does_not_take_are_held_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_MOST_HELD", 10_000)
    store = refused_names(tmp_path / "rec", monkeypatch, 100)
    store.close("test")
    assert any("names" in note for note in Manifest.read(tmp_path / "rec").notes)
    held = [job.held_bytes for job, _ in store._worker._refused]
    assert 10_000 < sum(held) < 13_000


def test_many_failures_are_told_in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = refused_names(tmp_path / "rec", monkeypatch, 50)
    store.close("test")
    assert store.trouble.count("was not written: No space left") == 3
    assert "nor were 47 more" in store.trouble
    assert len(Manifest.read(tmp_path / "rec").notes) == 4
