from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from droptape.analyze import RecordingError, open_recording
from unit.analyze.test_cli import run


@pytest.fixture
def two(incident: Path, tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        shutil.copytree(incident, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b"], "{0}/b is a recording, so no dataset is made there"),
        (["a", "a"], "{0}/a is a recording"),
        (["a", "a/"], "{0}/a is a recording"),
        (["a", "link"], "{0}/link is a recording"),
        (["a", "a/data"], "{0}/a/data lies in the recording {0}/a"),
        (["a", "b/deep/data"], "{0}/b/deep/data lies in the recording {0}/b"),
        (["a", "."], "{0}/a lies in {0}, where the dataset is to be"),
        (["a", "one.droptape"], "{0}/one.droptape is a bundle"),
        (["a", "text"], "{0}/text is a file"),
    ],
)
def test_a_dataset_is_never_made_in_a_recording_or_around_one(
    two: tuple[Path, Path],
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "link").symlink_to(two[1])
    (tmp_path / "text").write_text("mine")
    shutil.copy(good, tmp_path / "one.droptape")
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = run("archive", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"droptape: {message.format(tmp_path)}")
    assert "name " in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(tmp_path) == before


def test_a_dataset_beside_its_recordings_is_made(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("archive", *two, tmp_path / "data").returncode == 0
    assert run("archive", *two, tmp_path / "data").returncode == 0


def test_a_recording_with_a_dataset_in_it_is_refused_until_that_is_removed(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    one, other = two
    assert run("archive", one, tmp_path / "data").returncode == 0
    before = files(other)
    shutil.copytree(tmp_path / "data", other, dirs_exist_ok=True)  # as the first version did it
    with pytest.raises(RecordingError, match="is a recording into which a dataset was archived"):
        open_recording(other)
    for command in (["info", other], ["query", other, "FROM drops"]):
        done = run(*command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "remove _recordings, _tables and every date=* folder" in done.stderr
    for folder in (*other.glob("*/date=*"), other / "_tables", other / "_recordings"):
        shutil.rmtree(folder)
    assert run("info", other).returncode == 0
    assert set(before) <= set(files(other))
