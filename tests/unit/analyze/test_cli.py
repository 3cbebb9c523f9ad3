from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from unit.analyze.make import OLD_BASE

BASE = [sys.executable, "-m", "droptape.analyze.cli"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "80"}
SLOW = "SELECT max(length(repeat('x', 1000000 + range))) FROM range(100000000)"
LISTING = ("info", "summary", "top", "timeline", "symbolize")


def run(*args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BASE, *map(str, args)],
        capture_output=True, text=True, env=ENV, input=stdin, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["table", "csv", "json", "ndjson", "markdown", "parquet"])
@pytest.mark.parametrize("command", [*LISTING, "query"])
def test_every_command_in_every_format(
    incident: Path, tmp_path: Path, command: str, form: str
) -> None:
    target = tmp_path / "out"
    query = (
        ["SELECT kind, cause, events FROM totals ORDER BY events DESC"]
        if command == "query"
        else []
    )
    to_file = run(command, incident, *query, "--format", form, "-o", target)
    assert (to_file.returncode, to_file.stdout, to_file.stderr) == (0, "", "")
    if form == "parquet":
        assert pq.read_table(target).num_rows > 0
        piped = run(command, incident, *query, "-f", form)
        assert (piped.returncode, piped.stdout) == (2, "")
        assert piped.stderr == "droptape: parquet needs a file: -o FILE\n"
        return
    text = target.read_text()
    if form == "table":
        assert run(command, incident, *query, "-f", form).stdout == text
    if form == "json":
        assert json.loads(text)
    elif form == "ndjson":
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1
    elif form == "markdown":
        assert text.startswith("| ")
    assert "\x1b" not in text


def test_json_of_summary_and_info_hold_everything(incident: Path) -> None:
    summary = json.loads(run("summary", incident, "-f", "json").stdout)
    assert summary["events"] == 28
    assert summary["benign"] == 5000
    assert summary["owners"][0]["owner"] == "auction-server"
    info = json.loads(run("info", incident, "-f", "json").stdout)
    assert info["recordings"][0]["host"]["kernel"] == "6.18.1"
    assert info["recordings"][0]["seconds"] == 60.0


def test_top(incident: Path) -> None:
    done = run("top", incident, "--by", "owner,port", "--limit", 1, "-f", "csv")
    assert done.stdout == (
        "owner,port,events,share,rows,since,until\n"
        "auction-server,8080,19,86.36,14,"
        "2023-11-14T22:13:25.000000000Z,2023-11-14T22:13:30.500000000Z\n"
    )


def test_timeline(incident: Path) -> None:
    done = run(
        "timeline", incident, "--bucket", "30s", "--table", "drops", "--by", "protocol", "-f", "csv"
    )
    assert done.stdout == (
        "start,offset,protocol,events\n"
        "2023-11-14T22:13:20.000000000Z,0.0,TCP,5\n"
        "2023-11-14T22:13:50.000000000Z,30.0,TCP,1\n"
        "2023-11-14T22:13:50.000000000Z,30.0,,1\n"
    )


def test_symbolize_addresses(incident: Path) -> None:
    done = run(
        "symbolize", incident, f"{OLD_BASE + 0x3010:#x}", f"{OLD_BASE + 0x1008:x}", "-f", "json"
    )
    found = {
        row["location"]: (row["function"], row["offset"], row["module"])
        for row in json.loads(done.stdout)
    }
    assert found == {
        f"{OLD_BASE + 0x3010:#x}": ("nft_do_chain", 16, "nf_tables"),
        f"{OLD_BASE + 0x1008:#x}": ("tcp_v4_rcv", 8, None),
    }
    too_long = run("symbolize", incident, "0x1ffffffffffffffff")
    assert (too_long.returncode, too_long.stdout) == (2, "")


def test_query_from_standard_input_and_several_recordings(incident: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(incident, tmp_path / name)
    sql = "SELECT recording, count(*) AS n FROM drops GROUP BY 1 ORDER BY 1"
    done = run("query", tmp_path / "one", tmp_path / "two", "-", "-f", "csv", stdin=sql)
    assert done.stdout == "recording,n\none,5\ntwo,5\n"
    assert run("query", f"{tmp_path}/*", sql, "-f", "csv").stdout == done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["query", "{rec}", "COPY drops TO 'x'"], "COPY is not allowed: only SELECT"),
        (["query", "{rec}", "FROM dropz"], "there is no table dropz (did you mean drops?)"),
        (["query", "{rec}", "SELECT nope FROM drops"], 'Referenced column "nope" not found'),
        (["query", "{rec}", SLOW, "--timeout", "0.5"], "took longer than --timeout"),
        (["query", "{rec}", "SELECT 'a'::INT"], "Could not convert"),
        (["top", "{rec}", "--by", "nope"], "there is no column nope"),
        (["timeline", "{rec}", "--bucket", "soon"], "'soon' is not a duration"),
        (["info", "{rec}/drops"], "is not a recording: it has no recording.json"),
        (["summary", "/no/such"], "/no/such does not exist"),
        (["query", "/no/such", "SELECT 1"], "/no/such does not exist"),
        (["shell", "/no/such"], "/no/such does not exist"),
        (["info", "{rec}", "-o", "/no/such/file"], "cannot be written"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_exit_2(incident: Path, args: list[str], message: str) -> None:
    done = run(*[arg.replace("{rec}", str(incident)) for arg in args])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("droptape: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_usage_errors_exit_2(incident: Path) -> None:
    assert run("nosuch").returncode == 2
    assert run("top", incident, "--format", "xml").returncode == 2
    assert run("top").returncode == 2


def test_unreadable_files_are_warned_of_and_the_rest_is_answered(
    incident: Path, tmp_path: Path
) -> None:
    shutil.copytree(incident, tmp_path / "r")
    broken = min((tmp_path / "r" / "drops").iterdir())
    broken.write_bytes(b"PAR1")
    for args in (
        ["query", tmp_path / "r", "SELECT count(*) AS n FROM drops"],
        ["top", tmp_path / "r"],
    ):
        done = run(*args, "-f", "csv")
        assert done.returncode == 0
        assert done.stderr.startswith(f"droptape: warning: {broken}: not readable, left out")
        assert done.stderr.count("\n") == 1
    assert (
        run("query", tmp_path / "r", "SELECT count(*) AS n FROM drops", "-f", "csv").stdout
        == "n\n2\n"
    )


def test_help_has_an_example_for_every_command() -> None:
    commands = run("--help").stdout
    for command in (*LISTING, "query", "shell"):
        done = run(command, "--help")
        assert done.returncode == 0
        assert f"droptape {command}" in done.stdout.split("Example:")[1]
    assert all(command in commands for command in (*LISTING, "query", "shell"))


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("droptape ")


def test_a_closed_pipe_is_quiet(incident: Path) -> None:
    args = ["query", incident, "SELECT * FROM range(3000000)", "-f", "csv"]
    with subprocess.Popen(
        [*BASE, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_ctrl_c_stops_a_query(incident: Path) -> None:
    args = ["query", incident, SLOW]
    with subprocess.Popen(
        [*BASE, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV
    ) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    hide = (
        "import importlib.util as u, sys; find = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n in ('duckdb', 'typer') else find(n, *a); "
        "from droptape.analyze.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, env=ENV, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "droptape: duckdb, typer not installed: pip install 'droptape[analyze]'\n"
    )


def test_shell_answers_a_script(incident: Path) -> None:
    lines = (
        "\\tables", "\\d resets", "SELECT count(*) AS n", "FROM drops;", "DROP VIEW drops;",
        "\\d nope", "SELECT 7 AS last",
    )  # fmt: skip
    script = "\n".join(lines)
    done = run("shell", incident, stdin=script)
    assert done.returncode == 0
    shown = [line.rstrip() for line in done.stdout.splitlines()]
    assert any(line.startswith("listen ") for line in shown)
    assert any(line.startswith("direction ") for line in shown)
    assert shown[shown.index("n") + 2] == "5"
    assert any(line.startswith("error: DROP is not allowed") for line in shown)
    assert "error: there is no table nope" in done.stdout
    assert shown[-3:] == ["last", "────", "   7"]


def test_shell_on_a_terminal_completes_and_keeps_history(incident: Path, tmp_path: Path) -> None:
    env = {**ENV, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(BASE[0], [*BASE, "shell", str(incident)], env)
    seen = b""

    def wait_for(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            # readline rings the bell where more than one name fits.
            seen += os.read(terminal, 4096).replace(b"\a", b"")
        seen = seen.split(text, 1)[1]

    wait_for(b"droptape> ")
    os.write(terminal, b"SELECT count(*) AS found FROM lis\t")
    wait_for(b"listen")
    os.write(terminal, b";\n")
    wait_for(b"10\r\n")
    wait_for(b"droptape> ")
    os.write(terminal, b"\\q\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert status == 0
    history = (tmp_path / "droptape" / "history").read_text()
    assert "SELECT count(*) AS found FROM listen" in history
