"""Compiled programs that are kept for the next start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from droptape.bpf import compiled
from droptape.bpf.compiled import Cache, Compiled
from droptape.bpf.syscall import MapShape

SOME = Compiled(
    {"lost": MapShape(6, 4, 8, 32, 0), "totals": MapShape(5, 24, 56, 16384, 0)},
    {"drops_kfree_skb": bytes(range(64)), "track_state": b""},
)
KEY = "0" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def cache(folder: Path) -> Cache:
    return Cache(folder, owner=os.geteuid())


def test_what_is_kept_is_found_whole(folder: Path) -> None:
    assert cache(folder).find(KEY) is None
    cache(folder).keep(KEY, SOME)
    assert cache(folder).find(KEY) == SOME
    assert cache(folder).find("1" * 32) is None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.programs"]


def test_damaged_programs_are_not_used(folder: Path) -> None:
    cache(folder).keep(KEY, SOME)
    (path,) = folder.iterdir()
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at])
        assert cache(folder).find(KEY) is None
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert cache(folder).find(KEY) is None
    cache(folder).keep(KEY, SOME)
    assert cache(folder).find(KEY) == SOME


def test_programs_that_cannot_be_read_are_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a bad sector, for example."""
    cache(folder).keep(KEY, SOME)
    Path(folder, f"{KEY}.programs").unlink()
    Path(folder, f"{KEY}.programs").symlink_to("/proc/self/mem")  # reading its begin gives EIO
    monkeypatch.setattr(compiled, "_READ", os.O_RDONLY)
    assert cache(folder).find(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_can_write_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    cache(folder).keep(KEY, SOME)
    assert list(folder.iterdir()) == []
    folder.chmod(0o700)
    cache(folder).keep(KEY, SOME)
    folder.chmod(mode)
    assert cache(folder).find(KEY) is None


def test_a_file_that_others_can_write_is_not_used(folder: Path) -> None:
    cache(folder).keep(KEY, SOME)
    (path,) = folder.iterdir()
    path.chmod(0o620)
    assert cache(folder).find(KEY) is None


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    cache(folder).keep(KEY, SOME)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert cache(folder).find(KEY) is None
    folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / f"{KEY}.programs").symlink_to(elsewhere / f"{KEY}.programs")
    assert cache(folder).find(KEY) is None


def test_other_users_use_nothing(folder: Path) -> None:
    cache(folder).keep(KEY, SOME)
    other = Cache(folder, owner=os.geteuid() + 1)
    assert other.find(KEY) is None
    other.keep("1" * 32, SOME)
    assert len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache(tmp_path / "file" / "cache").keep(KEY, SOME)
    assert cache(tmp_path / "file" / "cache").find(KEY) is None


def test_what_is_not_used_is_forgotten(folder: Path) -> None:
    for number in range(16):
        key = f"{number:032}"
        cache(folder).keep(key, SOME)
        os.utime(folder / f"{key}.programs", ns=(number, number))
        assert cache(folder).find(f"{0:032}") == SOME
        os.utime(folder / f"{0:032}.programs", ns=(number, number))
    cache(folder).keep(f"{16:032}", SOME)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [f"{number:032}.programs" for number in (0, *range(6, 17))]


def test_a_use_is_noted(folder: Path) -> None:
    cache(folder).keep(KEY, SOME)
    (path,) = folder.iterdir()
    os.utime(path, ns=(1, 1))
    cache(folder).find(KEY)
    assert path.stat().st_mtime_ns > 1


def test_a_service_uses_the_folder_that_systemd_made_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(folder))
    Cache.of_this_user().keep(KEY, SOME)
    assert cache(folder).find(KEY) == SOME
    folder.chmod(0o722)
    assert Cache.of_this_user().find(KEY) is None


@pytest.mark.parametrize("given", ["", "cache"])
def test_what_is_not_the_folder_of_a_service_is_not_used(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHE_DIRECTORY", given)
    monkeypatch.setattr(compiled, "FOLDER", tmp_path / "root")
    Cache.of_this_user().keep(KEY, SOME)
    assert {path.name for path in tmp_path.iterdir()} <= {"root"}
