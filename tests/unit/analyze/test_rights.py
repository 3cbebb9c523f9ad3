"""Recordings of another user: said in one line, and the rest is read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import RecordingError, open_recording
from unit.analyze.incident import make_incident
from unit.analyze.make import Maker

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root makes what others may not read")

_NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be a user without rights for a while."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def opened_up(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def test_a_folder_of_another_user(place: Path) -> None:
    bad, good = make_incident(place / "bad"), opened_up(make_incident(place / "good"))
    open_recording(good).close()  # imports what a user without rights may not
    bad.chmod(0o700)
    closed = "cannot be read: Permission denied: read it as root or as a member of its group"
    with nobody():
        for name in (bad, bad / "drops", f"{place}/b*"):
            with pytest.raises(RecordingError, match=closed) as caught:
                open_recording(name).close()
            assert "\n" not in str(caught.value)
        for names in ([good, bad], [bad, good], [f"{place}/*"]):
            with open_recording(*names) as rec:
                assert [source.name for source in rec.sources] == ["good"]
                assert [str(p) for p in rec.problems] == [f"{bad}: {closed}"]


def test_files_of_another_user(place: Path) -> None:
    maker = Maker(place / "rec")
    sealed = maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
    journal = maker.journal("resets", [{"at": 1, "direction": "sent"}])
    folder = opened_up(maker.finish(state="recording"))
    barred = (sealed, journal)
    for path in barred:
        path.chmod(0)
    with nobody(), open_recording(folder) as rec:
        told = {problem.path: problem.text for problem in rec.problems}
        bad = {f.subject: f.why for f in rec.verify().unexplained if f.part == "files"}
    for path in barred:
        assert told[path] == "cannot be read: Permission denied, left out"
        assert bad[f"{path.parent.name}/{path.name}"] == "cannot be read: Permission denied"


def test_a_table_of_another_user(place: Path) -> None:
    maker = Maker(place / "rec")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
    maker.seal("resets", [{"at": 1, "direction": "sent"}] * 3)
    folder = opened_up(maker.finish())
    (folder / "drops").chmod(0o700)
    with nobody(), open_recording(folder) as rec:
        assert f"{folder}/drops: cannot be read: Permission denied" in str(rec.problems[0])
        assert rec.sql("SELECT count(*) FROM resets").fetchall() == [(3,)]
        assert not rec.summary().completeness[1]
        bad = [f for f in rec.verify().unexplained if f.part == "files"]
    assert bad[0].subject == "drops"
