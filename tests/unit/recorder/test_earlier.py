"""Recordings of earlier starts, of which the oldest go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from droptape.format.layout import MANIFEST
from droptape.format.manifest import Manifest
from droptape.recorder.earlier import remove_earlier
from unit.recorder.helpers import make_manifest, make_store

SIZE = 100_000


def name(day: int) -> str:
    return f"droptape-web1-202501{day:02d}T000000Z"


def recorded(folder: Path, day: int, **changed: object) -> Path:
    """Make a finished recording of a day of January, of about `SIZE` bytes."""
    (folder / "drops").mkdir(parents=True)
    (folder / "drops/000001-20250101T000000Z.parquet").write_bytes(b"\0" * SIZE)
    manifest = make_manifest()
    manifest.started_ns, manifest.state = day * 10**9, "complete"
    manifest.options = {"keep_recordings": 1}
    for key, value in changed.items():
        setattr(manifest, key, value)
    manifest.write(folder)
    return folder


def left(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    for day in (3, 1, 4, 2):
        recorded(tmp_path / name(day), day)
    own = recorded(tmp_path / name(5), 0, state="recording")
    assert remove_earlier(tmp_path, 5 * SIZE, own) == []
    said = remove_earlier(tmp_path, 2 * SIZE + SIZE // 2, own)
    assert left(tmp_path) == [name(3), name(4), name(5)]
    assert [text.partition(" was removed")[0] for text in said] == [
        str(tmp_path / name(day)) for day in (1, 2)
    ]
    remove_earlier(tmp_path, 1, own)
    assert left(tmp_path) == [own.name]


def test_what_is_not_of_the_series_is_left_alone(tmp_path: Path) -> None:
    recorded(tmp_path / "by-hand", 1)
    recorded(tmp_path / name(1), 1, options={"disk_budget": 1, "keep_recordings": None})
    recorded(tmp_path / name(2), 2, options={})
    recorded(tmp_path / name(3), 3, state="recording")
    elsewhere = recorded(tmp_path / name(4), 4)
    manifest = Manifest.read(elsewhere)
    manifest.host.name = manifest.host.machine_id = "another"
    manifest.write(elsewhere)
    (tmp_path / name(5)).symlink_to(recorded(tmp_path / "target", 5))
    (tmp_path / name(6)).mkdir()
    (tmp_path / name(7)).write_text("a file")
    damaged = recorded(tmp_path / name(8), 8) / MANIFEST
    damaged.write_text(damaged.read_text().replace("complete", "recovered"))
    before = left(tmp_path)
    assert remove_earlier(tmp_path, 1, tmp_path / name(9)) == []
    assert left(tmp_path) == before
    assert (tmp_path / "target/drops").is_dir()


def test_a_recording_in_use_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / name(1))
    with store.update() as manifest:
        manifest.options = {"keep_recordings": 1}
        manifest.state = "complete"
    store._ledger.save()
    (said,) = remove_earlier(tmp_path, 1, tmp_path / name(2))
    assert "was not removed" in said
    assert "running droptape-record" in said
    store.close("test")


def test_the_recordings_of_another_user_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path / name(1), 1)
    monkeypatch.setattr("droptape.recorder.earlier.os.geteuid", lambda: os.getuid() + 1)
    assert remove_earlier(tmp_path, 1, tmp_path / name(2)) == []
    assert left(tmp_path) == [name(1)]


def test_links_in_a_recording_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("dear")
    folder = recorded(tmp_path / name(1), 1)
    (folder / "link").symlink_to(tmp_path / "mine")
    (folder / "drops/link").symlink_to(tmp_path / "mine")
    assert len(remove_earlier(tmp_path, 1, tmp_path / name(2))) == 1
    assert left(tmp_path) == ["mine"]
    assert (tmp_path / "mine/file").read_text() == "dear"


def test_a_removal_that_was_killed_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded(tmp_path / name(1), 1)
    (folder / "totals").mkdir()

    def stop(path: Path) -> None:
        raise OSError(5, "as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        (said,) = remove_earlier(tmp_path, 1, tmp_path / name(2))
    assert "as if killed" in said
    assert Manifest.read(folder).state == "complete"
    remove_earlier(tmp_path, 1, tmp_path / name(2))
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (said,) = remove_earlier(tmp_path / "none", 1, tmp_path / "none/own")
    assert "was not searched" in said
