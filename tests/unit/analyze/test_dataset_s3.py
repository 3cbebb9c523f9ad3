"""A dataset in S3-compatible storage, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import RecordingError, archive, open_recording
from droptape.analyze.dataset.store import open_store
from unit.analyze.fleet import make_fleet
from unit.analyze.s3 import BUCKET, KEY, PROGRAM, SECRET, free_port, s3_server

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="no rclone: make fleet")

PLACE = f"s3://{BUCKET}/incident"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as url, pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", url)
        patched.setenv("AWS_ACCESS_KEY_ID", KEY)
        patched.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield folder


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_fleet(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def local(fleet: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    archive([str(path) for path in fleet], str(folder))
    return folder


@pytest.fixture(scope="module")
def place(server: Path, fleet: list[Path]) -> str:
    done = archive([str(path) for path in fleet], PLACE)
    assert len(done.added) == 3
    return PLACE


def paths(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_objects_are_as_in_a_folder(place: str, server: Path, local: Path) -> None:
    assert paths(server / BUCKET / "incident") == paths(local)


def test_archiving_again_writes_nothing(place: str, server: Path, fleet: list[Path]) -> None:
    root = server / BUCKET / "incident"
    before = {p: (root / p).stat().st_mtime_ns for p in paths(root)}
    done = archive([str(path) for path in fleet], place)
    assert (len(done.added), len(done.kept)) == (0, 3)
    assert {p: (root / p).stat().st_mtime_ns for p in paths(root)} == before


def test_answers_are_those_of_the_folder(place: str, local: Path) -> None:
    with open_recording(place) as far, open_recording(local) as near:
        assert far.summary().to_json()["causes"] == near.summary().to_json()["causes"]
        by = ["host", "reason", "function", "saddr"]
        assert far.top(by, limit=500).fetchall() == near.top(by, limit=500).fetchall()
        assert [f.title for f in far.diagnose().findings] == [
            f.title for f in near.diagnose().findings
        ]
        assert [m.text for m in far.marked()] == ["firewall rule deployed", "firewall rule removed"]
    chosen = {"hosts": ["web-*"], "start": "2026-11-21T09:40:00Z"}
    with open_recording(place, **chosen) as far:  # type: ignore[arg-type]
        assert far.sql("SELECT DISTINCT host FROM events").fetchall() == [("web-2",)]


def test_query_in_its_confined_process_reads_from_afar(place: str) -> None:
    code = "from droptape.analyze.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "query", place, "-f", "csv",
         "SELECT host, count(*) AS n FROM drops GROUP BY host ORDER BY host"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "host,n\nweb-1,1177\nweb-2,957\n"), run.stderr


def test_an_interrupted_archive_shows_nothing_and_goes_on(
    server: Path, fleet: list[Path], local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from droptape.analyze.dataset import archive as module

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    other = f"s3://{BUCKET}/other"
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_entry", fail)
        with pytest.raises(KeyboardInterrupt):
            archive([str(fleet[0])], other)
    with pytest.raises(RecordingError, match="is not a dataset"):
        open_recording(other)
    archive([str(path) for path in fleet], other)
    assert paths(server / BUCKET / "other") == paths(local)


def test_a_lost_object_is_named_and_the_rest_is_answered(server: Path, fleet: list[Path]) -> None:
    third = f"s3://{BUCKET}/third"
    archive([str(path) for path in fleet], third)
    (gone,) = (server / BUCKET / "third").glob("drops/*/host=web-1/*.parquet")
    name = str(gone.relative_to(server / BUCKET / "third"))
    open_store(third).delete(name)
    with open_recording(third) as rec:
        assert [str(p) for p in rec.problems] == [f"{name}: is missing; left out"]
        assert rec.sql("SELECT DISTINCT host FROM drops").fetchall() == [("web-2",)]


def test_storage_that_does_not_answer_is_one_line(
    fleet: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for ask in (
        lambda: open_recording("s3://nowhere/data"),
        lambda: archive([str(fleet[0])], "s3://nowhere/data"),
    ):
        with pytest.raises(RecordingError, match="s3://nowhere/data cannot be reached") as caught:
            ask()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "text"),
    [("s3://", "name a bucket"), ("s3://b/c?colour=red", "colour is not known")],
)
def test_an_address_that_is_none_is_said(place: str, text: str) -> None:
    with pytest.raises(RecordingError, match=text):
        open_recording(place)
