from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from droptape.analyze import QueryError, open_recording
from droptape.analyze.dataset.archive import archive
from droptape.analyze.targets import destination, whole_file
from unit.analyze.incident import make_incident
from unit.analyze.test_cli import BASE, ENV, run

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
WRITERS = [
    ["info", "{rec}"],
    ["summary", "{rec}", "-f", "json"],
    ["query", "{rec}", "SELECT * FROM drops ORDER BY ts", "-f", "csv"],
    ["query", "{rec}", "SELECT * FROM drops", "-f", "parquet"],
    ["export", "{rec}", "--to", "openmetrics"],
    ["report", "{rec}"],
    ["bundle", "{rec}"],
]
IDS = [f"{args[0]}-{args[-1]}" for args in WRITERS]


def device(path: Path, minor: int) -> Path:
    """Make a copy of /dev/null (3) or /dev/full (7): the machine's own are left alone."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("wb").close()
    except OSError:
        pytest.skip("no device nodes here")
    return path


def filled(args: list[str], rec: Path) -> list[str]:
    return [arg.replace("{rec}", str(rec)) for arg in args]


@root
@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_device_stays_a_device(incident: Path, tmp_path: Path, args: list[str]) -> None:
    null = device(tmp_path / "null", 3)
    done = run(*filled(args, incident), "-o", null)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


@root
@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_full_device_is_said(incident: Path, tmp_path: Path, args: list[str]) -> None:
    full = device(tmp_path / "full", 7)
    done = run(*filled(args, incident), "-o", full)
    assert done.returncode == 2
    assert done.stderr == f"droptape: {full} cannot be written: No space left on device\n"
    assert stat.S_ISCHR(full.stat().st_mode)


@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_pipe_gets_what_a_file_would_hold(
    incident: Path, tmp_path: Path, args: list[str]
) -> None:
    pipe, got = tmp_path / "pipe", tmp_path / "got"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.write_bytes(pipe.read_bytes()), daemon=True)
    reader.start()
    done = run(*filled(args, incident), "-o", pipe)
    reader.join(20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pipe.is_fifo()
    if args[0] == "bundle":
        assert zipfile.ZipFile(got).testzip() is None
    elif args[-1] == "parquet":
        assert pq.read_table(got).num_rows == 5
    else:
        assert run(*filled(args, incident), "-o", tmp_path / "file").returncode == 0
        assert got.read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_link_stays_and_its_target_is_replaced(
    incident: Path, tmp_path: Path, args: list[str]
) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "target"
    link.symlink_to("there/target")
    for content in (None, b"old"):
        if content:
            target.write_bytes(content)
        assert run(*filled(args, incident), "-o", link).returncode == 0
        assert link.is_symlink()
        assert target.stat().st_size > 10
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "target", "there"]


@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_folder_is_refused(incident: Path, tmp_path: Path, args: list[str]) -> None:
    done = run(*filled(args, incident), "-o", tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"droptape: {tmp_path} is a folder: name a file\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["", "nowhere/file", "file/file"])
def test_what_cannot_be_written_is_said_before_the_work(
    incident: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "file").touch()
    for work in ("report.page.page", "bundle.make._read"):
        monkeypatch.setattr(f"droptape.analyze.{work}", lambda *_: pytest.fail("it was begun"))
    with open_recording(incident) as rec:
        for write in (rec.report, rec.bundle):
            with pytest.raises(QueryError, match=r"name a file|cannot be written"):
                write(tmp_path / where)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("args", WRITERS, ids=IDS)
def test_a_recording_is_never_written_over(tmp_path: Path, args: list[str]) -> None:
    rec = make_incident(tmp_path / "rec")
    before = contents(rec)
    done = run(*filled(args, rec), "-o", rec / "recording.json")
    assert done.returncode == 2
    assert done.stderr == (
        f"droptape: {rec}/recording.json is a file of {rec.resolve()} itself: name another file\n"
    )
    assert contents(rec) == before


def test_no_file_of_a_recording_is_written_over(tmp_path: Path) -> None:
    rec = make_incident(tmp_path / "rec")
    sealed = next((rec / "drops").glob("*.parquet"))
    (tmp_path / "link").symlink_to("rec/recording.json")
    before = contents(tmp_path)
    own = (rec / "recorder.lock", sealed, rec / "drops" / "new.parquet", tmp_path / "link")
    for target in own:
        with pytest.raises(QueryError, match=r"is a file of .*/rec itself"), destination(target):
            pass
    (rec / "recording.json").unlink()
    with pytest.raises(QueryError, match="is a file of"), whole_file(sealed):
        pass
    assert {**before, **contents(tmp_path)} == before


@pytest.mark.parametrize("args", [*WRITERS, ["diff", "{rec}", "{rec}"]])
def test_a_bundle_that_is_read_is_not_written_over(
    good: Path, tmp_path: Path, args: list[str]
) -> None:
    bundle, link = tmp_path / "b.droptape", tmp_path / "link"
    shutil.copy(good, bundle)
    link.symlink_to(bundle)
    done = run(*filled(args, bundle), "-o", link)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"droptape: {link} is what is read: name another file\n"
    assert bundle.read_bytes() == good.read_bytes()


def test_a_key_is_not_written_over(incident: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    done = run("bundle", incident, "--redact", "--key", key, "-o", key)
    assert (done.returncode, key.read_bytes()) == (2, b"k" * 32)


def test_a_dataset_is_not_written_over(incident: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    archive([str(incident)], str(data))
    for file in filter(Path.is_file, data.rglob("*")):
        with pytest.raises(QueryError, match=r"is a file of .*/data itself"), destination(file):
            pass


def test_answers_beside_what_they_are_from_are_written(good: Path, tmp_path: Path) -> None:
    rec = make_incident(tmp_path / "rec")
    other = tmp_path / "other.droptape"
    shutil.copy(good, other)
    with open_recording(rec) as opened:
        for _ in range(2):
            opened.export("openmetrics", rec / "metrics.txt")
            opened.bundle(other)


def test_standard_output_by_its_name(incident: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    # As /dev/stdout, which itself is no place for a test: a defect would replace it, as root.
    own = tmp_path / "stdout"
    own.symlink_to("/proc/self/fd/1")
    with log.open("ab") as file:
        command = [*BASE, "info", str(incident), "-f", "json", "-o", str(own)]
        done = subprocess.run(command, stdout=file, env=ENV, check=False, timeout=60)
    assert done.returncode == 0
    assert own.is_symlink()
    before, _, answer = log.read_text().partition("\n")
    assert before == "before"
    assert json.loads(answer)["recordings"]


def test_links_without_an_end_are_said(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(other)
    with (
        pytest.raises(QueryError, match="cannot be written: Too many levels"),
        destination(tmp_path / "a"),
    ):
        pass


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with destination(target) as file:
        file.write("whole")
    assert target.read_text() == "whole"


def test_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    with destination(tmp_path / "x") as file:
        file.write("web-\udcff")
    assert (tmp_path / "x").read_text() == "web-\\udcff"


def test_an_error_of_what_is_written_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the stream ended"), whole_file(tmp_path / "x"):
        raise OSError("the stream ended")
    assert list(tmp_path.iterdir()) == []
