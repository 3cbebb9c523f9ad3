"""Marks in a running recording."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from droptape.analyze import open_recording
from lab.recorder import PROGRAMS, Recorder


def mark(text: str, folder: Path, *, user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / "droptape-record", "--mark", text, folder],
        capture_output=True, text=True, check=False, timeout=60, user=user, cwd="/",
    )  # fmt: skip


def test_marks_of_several_at_once(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec") as recorder:
        start = time.time_ns()
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda n: mark(f"mark {n}", recorder.folder), range(8)))
        end = time.time_ns()
        assert [(d.returncode, d.stdout, d.stderr) for d in done] == [(0, "", "")] * 8
        with open_recording(recorder.folder) as rec:
            assert len(rec.marked()) == 8  # also while it is being written
    with open_recording(recorder.folder) as rec:
        marks = rec.marked()
        assert {m.text for m in marks} == {f"mark {n}" for n in range(8)}
        assert all(start <= m.ts_ns <= end for m in marks)
        assert rec.sql("SELECT count(*) FROM marks").fetchall() == [(8,)]
        assert rec.between("mark:mark 3").info().seconds < rec.info().seconds
        assert [f.subject for f in rec.verify().unexplained if f.part == "files"] == []


def test_roots_mark_belongs_to_the_owner_of_the_recording(tmp_path: Path) -> None:
    """So that a link which the owner puts there leads root nowhere that the owner cannot go."""
    nobody = pwd.getpwnam("nobody").pw_uid
    with Recorder(tmp_path / "rec") as recorder:
        for path in [recorder.folder, *recorder.folder.rglob("*")]:
            os.chown(path, nobody, -1)
        for folder in (tmp_path, *tmp_path.parents):
            with contextlib.suppress(OSError):
                folder.chmod(folder.stat().st_mode | 0o011)
        done = mark("seen", recorder.folder)
        assert (done.returncode, done.stderr) == (0, "")
        (file,) = (recorder.folder / "marks").glob("*.parquet")
        assert (file.stat().st_uid, file.parent.stat().st_uid) == (nobody, nobody)
        shutil.rmtree(recorder.folder / "marks")
        (tmp_path / "victim").mkdir(mode=0o700)
        (recorder.folder / "marks").symlink_to(tmp_path / "victim")
        assert mark("led astray", recorder.folder).returncode == 2
        assert list((tmp_path / "victim").iterdir()) == []


def test_what_cannot_be_marked(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec") as recorder:
        for text in ("", "two\nlines", "\x1b[2J", "x" * 1001):
            done = mark(text, recorder.folder)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "Traceback" not in done.stderr
        assert not (recorder.folder / "marks").exists()
    ended = mark("late", recorder.folder)
    assert (ended.returncode, ended.stderr) == (
        2, f"droptape-record: {recorder.folder} is not being recorded to any more\n",
    )  # fmt: skip
    assert "is not a recording" in mark("x", tmp_path).stderr
    assert "does not exist" in mark("x", tmp_path / "none").stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rec"]
