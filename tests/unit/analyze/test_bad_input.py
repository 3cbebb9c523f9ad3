from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from droptape.analyze import QueryError, RecordingError, open_recording
from droptape.analyze.dataset.archive import archive
from droptape.analyze.durations import nanoseconds
from droptape.analyze.times import Landmarks, Mark, instant
from droptape.format.layout import MANIFEST
from unit.analyze.make import SECOND, START, Maker
from unit.analyze.test_cli import BASE, ENV, run

LONG = "a" * 5000
FAR = Landmarks(START, START + SECOND, (Mark(START, "go", "ada", "r"),))


def shell(line: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``droptape`` where `line` has "$@"."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *BASE, *map(str, args)],
        capture_output=True, text=True, env={**ENV, **env}, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["+99999999999999d", "-99999999999d", "mark:go+99999999999d", "+100000d", "-106000d"]
)
def test_times_too_far_away_are_said(text: str) -> None:
    with pytest.raises(QueryError, match=r"too (far away|long)"):
        instant(text, FAR if text[0] != "-" else Landmarks(None, -START))


def test_numbers_too_far_away_and_long_durations() -> None:
    with pytest.raises(QueryError, match="too far away"):
        instant(1 << 63, FAR)
    for text in ("9" * 400 + "s", "106752d"):
        with pytest.raises(QueryError, match="is too long: at most 292 years"):
            nanoseconds(text)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["summary", "{rec}", "--from=+99999999999999d"], "is too long"),
        (["info", "{rec}", "--to=-99999999999d"], "is too long"),
        (["query", "{rec}", "SELECT 1", "--timeout", "inf"], "a timeout of inf s cannot be kept"),
        (["query", "{rec}", "SELECT 1", "--timeout", "1e300"], "cannot be kept"),
        (["query", "{rec}", "SELECT 1", "--timeout", "nan"], "see droptape query --help"),
        (["query", "{rec}", "SELECT 1", "--timeout", "-1"], "see droptape query --help"),
        (["info", "~nosuchuser/x"], "~nosuchuser/x"),
        (["info", LONG], "File name too long"),
        (["query", LONG, "SELECT 1"], "File name too long"),
        (["top", "{rec}", "--limit", "0"], "see droptape top --help"),
        (["info", "{rec}", "-f", "nope"], "'markdown'"),
        (["diff", "{rec}", "{rec}", "--threshold", "nan"], "'--threshold'"),
        (["nosuch"], "no such command 'nosuch'; see droptape --help"),
    ],
)
def test_bad_input_is_one_line(incident: Path, args: list[str], message: str) -> None:
    done = run(*[arg.replace("{rec}", str(incident)) for arg in args])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("droptape: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "size",
    ["-1GB", "-1", "0", "0GB", "0.0 MiB", "none", "", "GB", "5", "much", "nan", "inf", "5 XB"],
)
def test_memory_is_a_positive_size(incident: Path, size: str) -> None:
    with pytest.raises(QueryError, match="is no amount of memory: give it as 512MB or 2GB"):
        open_recording(incident, memory_limit=size).close()


@pytest.mark.parametrize("size", ["512MB", "1.5GiB", " 2 gb ", "1e3MB", "50%"])
def test_an_amount_of_memory(incident: Path, size: str) -> None:
    open_recording(incident, memory_limit=size).close()


def test_without_arguments_the_help_is_shown() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: droptape" in done.stdout


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    done = shell(f'mkdir {gone}; cd {gone}; rmdir {gone}; exec "$@"', "info", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "droptape: x does not exist\n"
    for args in (["info", "."], ["query", ".", "SELECT 1"], ["archive", ".", "/nowhere"]):
        done = shell(f'mkdir {gone}; cd {gone}; rmdir {gone}; exec "$@"', *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "droptape: the current folder is gone: change to one that is there\n"
        )


@pytest.mark.parametrize("bucket", ["1ns", "1us"])
def test_any_bucket_is_drawn(incident: Path, bucket: str) -> None:
    narrow = run("timeline", incident, "--bucket", bucket)
    assert (narrow.returncode, narrow.stderr) == (0, "")
    wide = run("timeline", incident, "--bucket", "1s")
    counts = [line for line in wide.stdout.splitlines() if " events, at most" in line]
    for line in counts:
        assert line.partition(", at most")[0] in narrow.stdout


def test_a_column_called_as_one_of_the_answer(incident: Path) -> None:
    done = run("timeline", incident, "--by", "offset")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(run("timeline", incident, "--by", "offset", "-f", "json").stdout)
    assert list(rows[0]) == ["start", "offset", "offset_of_event", "events"]


# --- standard streams ----------------------------------------------------------------------------


COMMANDS = [["info"], ["verify"], ["query", "SELECT * FROM drops"], ["export", "--to=openmetrics"]]


@pytest.mark.parametrize("args", COMMANDS, ids=[args[0] for args in COMMANDS])
@pytest.mark.parametrize("closed", [True, False])
def test_standard_output_that_cannot_be_written(
    incident: Path, tmp_path: Path, args: list[str], closed: bool
) -> None:
    line, why = '"$@" >&-', "Bad file descriptor"
    if not closed:
        try:
            os.mknod(tmp_path / "full", 0o666 | stat.S_IFCHR, os.makedev(1, 7))
            (tmp_path / "full").open("wb").close()
        except OSError:
            pytest.skip("no device nodes here")
        line, why = f'"$@" >{tmp_path}/full', "No space left on device"
    done = shell(line, args[0], incident, *args[1:])
    assert done.returncode == 2
    assert done.stderr == f"droptape: standard output cannot be written: {why}\n"


def test_all_streams_closed(incident: Path, tmp_path: Path) -> None:
    query = ["query", incident, "SELECT 1 AS one", "-f", "csv", "-o", tmp_path / "x"]
    assert shell('"$@" <&- >&- 2>&-', *query).returncode == 0
    assert (tmp_path / "x").read_text() == "one\n1\n"


@pytest.mark.parametrize("args", [["summary"], ["query", "SELECT 'é日\U0001f600' AS x"]])
def test_an_encoding_without_these_letters(incident: Path, args: list[str]) -> None:
    for more in ([], ["-f", "json"]):
        done = shell('"$@"', args[0], incident, *args[1:], *more, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        if more:
            plain = run(args[0], incident, *args[1:], *more)
            assert json.loads(done.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize("command", ["info", "summary", "verify", "timeline", "help"])
def test_a_reader_that_goes_is_no_error(incident: Path, tmp_path: Path, command: str) -> None:
    args = ["--help"] if command == "help" else [command, incident]
    code = run(*args).returncode
    # A pipe whose reader has gone for certain, not just soon.
    done = shell(f'exec 3> >(:); wait $!; "$@" >&3; echo $? >{tmp_path}/code', *args)
    assert done.stderr == ""
    assert (tmp_path / "code").read_text() == f"{code}\n"


# --- text of recorded hosts ----------------------------------------------------------------------


def test_errors_show_no_control_characters(incident: Path, tmp_path: Path) -> None:
    path = tmp_path / "r"
    shutil.copytree(incident, path)
    rows: list[Mapping[str, object]] = [
        {"ts": START + SECOND, "text": "\x1b[31mred\x1b]0;t\x07", "source": "ada"}
    ]
    (tmp_path / "other").mkdir()
    Maker(tmp_path / "other" / "r").dictionary("marks", rows).parent.rename(path / "marks")
    for args in (
        ["summary", path, "--from", "mark:zzz"],
        ["query", path, "SELECT text::INT FROM marks"],
    ):
        done = run(*args)
        assert done.returncode == 2
        assert "\\x1b[31mred" in done.stderr
        assert "\x1b" not in done.stderr
        assert done.stderr.count("\n") == 1
    marks = path / "marks"
    broken = path / "drops" / "\x1b[31m.parquet"
    broken.write_bytes(b"PAR1")
    marks.rename(tmp_path / "marks")
    assert "\x1b" not in run("info", path).stderr


def test_openmetrics_of_a_folder_with_a_control_character(incident: Path, tmp_path: Path) -> None:
    path = tmp_path / "a\x1bb"
    shutil.copytree(incident, path)
    with open_recording(path) as rec:
        rec.export("openmetrics", tmp_path / "x")
    text = (tmp_path / "x").read_text()
    assert 'droptape_events_total{recording="a\\\\x1bb"' in text
    assert "\x1b" not in text


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "rec")
    odd = Path(os.fsdecode(os.fsencode(maker.path) + b"/\xff"))
    shutil.copytree(maker.seal("drops", [{"at": 1.0, "weight": 1}]).parent, odd)
    maker.finish(state="recording", ended_ns=None, ended_by="")
    with open_recording(maker.path) as rec:
        assert [str(p) for p in rec.problems] == [f"{odd}: left out: its name is not UTF-8"]
        subjects = [finding.subject for finding in rec.verify().unexplained]
    assert "\\udcff" in subjects
    assert all(subject.encode() for subject in subjects)
    assert archive([str(maker.path)], str(tmp_path / "fleet")).added
    renamed = maker.path.rename(maker.path.parent / odd.name)
    with pytest.raises(RecordingError, match="its name is not UTF-8, rename it"):
        open_recording(renamed)


@pytest.mark.parametrize("where", ["declaration", "host"])
def test_half_a_character_in_the_manifest(incident: Path, tmp_path: Path, where: str) -> None:
    """JSON can say what no text can hold; no recorder writes it."""
    folder = tmp_path / "r"
    shutil.copytree(incident, folder)
    plain = json.loads((folder / MANIFEST).read_bytes())
    del plain["sha256"]
    if where == "host":
        plain["host"]["name"] = "h\udcff"
    else:
        plain["tables"]["listeners"]["columns"][0]["doc"] = "\ud800"
    (folder / MANIFEST).write_text(json.dumps(plain))
    told = f"{folder / MANIFEST} is damaged: a text in it has half a character"
    for verb in ("summary", "info"):
        done = run(verb, folder)
        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            f"droptape: warning: {folder}: {told}; its tables are read without it"
        ]
    done = run("archive", folder, incident, tmp_path / "fleet")
    assert done.returncode == 1
    assert "half a character" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("info", tmp_path / "fleet").returncode == 0


def test_half_a_character_in_a_declaration(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.tables["resets"] = replace(maker.tables["resets"], doc="\ud800")
    sealed = maker.seal("resets", [{"at": 1, "direction": "sent"}])
    journal = maker.journal("resets", [{"at": 2, "direction": "sent"}])
    maker.tables["resets"] = replace(maker.tables["resets"], doc="whole \U0001f600")
    maker.seal("resets", [{"at": 3, "direction": "sent"}])
    with open_recording(maker.path) as rec:
        assert [p.path for p in rec.problems[1:]] == [sealed, journal]
        assert rec.sources[0].tables["resets"].rows == 1
