"""The JavaScript of a page is made once for each version of the package that carries it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import vl_convert

from droptape.analyze.report import library as made_by
from droptape.analyze.report.library import library

PACKAGE = "vl-convert-python"
SCRIPT = "1 < 2; '</script>'; 'é'"
SAFE = "1 < 2; '\\x3c/script>'; 'é'"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was put together; with a cache of its own."""
    calls: list[str] = []

    def bundle(snippet: str) -> str:
        calls.append(snippet)
        return SCRIPT

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def again() -> str:
    """Ask as another process would."""
    library.cache_clear()
    return library()


def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "droptape" / f"vega-{version(PACKAGE)}.js"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    library.cache_clear()
    yield
    library.cache_clear()


def test_it_is_made_once(made: list[str], tmp_path: Path) -> None:
    assert [again(), again()] == [SAFE, SAFE]
    assert len(made) == 1
    assert kept(tmp_path).parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in kept(tmp_path).parent.iterdir()] == [kept(tmp_path).name]


def test_it_is_made_anew_for_another_version(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again()
    monkeypatch.setattr(made_by, "version", lambda package: "0.0")
    again()
    assert len(made) == 2
    assert [file.name for file in kept(tmp_path).parent.iterdir()] == ["vega-0.0.js"]


@pytest.mark.parametrize("at", [0, 70, -1])
def test_a_damaged_one_is_made_anew(made: list[str], tmp_path: Path, at: int) -> None:
    again()
    data = bytearray(kept(tmp_path).read_bytes())
    data[at] ^= 1
    kept(tmp_path).write_bytes(data)
    assert again() == SAFE
    assert again() == SAFE
    assert len(made) == 2


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_one_that_others_can_write_is_not_used(made: list[str], tmp_path: Path, mode: int) -> None:
    again()
    kept(tmp_path).chmod(mode)
    again()
    assert len(made) == 2
    assert kept(tmp_path).stat().st_mode & 0o077 == 0


def test_a_link_and_a_pipe_are_not_read(made: list[str], tmp_path: Path) -> None:
    again()
    kept(tmp_path).rename(tmp_path / "elsewhere")
    kept(tmp_path).symlink_to(tmp_path / "elsewhere")
    again()
    assert len(made) == 2
    kept(tmp_path).unlink()
    os.mkfifo(kept(tmp_path))
    again()
    assert len(made) == 3


def test_without_a_place_it_is_made_each_time(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [again(), again()] == [SAFE, SAFE]
    assert len(made) == 2
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.chdir(tmp_path)
    assert [again(), again()] == [SAFE, SAFE]
    assert len(made) == 4
    monkeypatch.setattr(Path, "home", lambda: Path("here"))
    again()
    assert len(made) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of others")
def test_root_leaves_nothing_in_the_home_of_somebody(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert [again(), again()] == [SAFE, SAFE]
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []
