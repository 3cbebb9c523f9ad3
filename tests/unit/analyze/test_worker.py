from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from droptape.analyze import QueryTimeoutError, RecordingError, sandbox
from droptape.analyze.client import Client
from droptape.analyze.errors import QueryError
from unit.analyze.incident import DROPS, make_incident
from unit.analyze.make import Maker
from unit.analyze.test_reading import remove_the_first

needs_landlock = pytest.mark.skipif(sandbox.abi() == 0, reason="this kernel has no Landlock")

CONFINED = """
import os, socket, sys
from pathlib import Path
sys.path[:] = {path!r}
from droptape.analyze import sandbox
readable, secret, temp = map(Path, sys.argv[1:])
assert sandbox.restrict([readable], temp)
def refused(action):
    try:
        action()
    except PermissionError:
        return True
    return False
print(readable.joinpath("x").read_text(),
      refused(lambda: readable.joinpath("x").write_text("changed")),
      refused(lambda: readable.joinpath("new").write_text("new")),
      refused(lambda: readable.joinpath("x").unlink()),
      refused(lambda: secret.read_text()),
      refused(lambda: os.truncate(readable.joinpath("x"), 0)),
      sandbox.abi() < 4 or refused(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
      temp.joinpath("spill").write_text("spill"))
"""


@needs_landlock
def test_a_confined_process_reads_its_folder_and_writes_only_the_other(tmp_path: Path) -> None:
    readable, temp, secret = tmp_path / "r", tmp_path / "t", tmp_path / "secret"
    readable.mkdir()
    temp.mkdir()
    (readable / "x").write_text("text")
    secret.write_text("secret")
    code = CONFINED.replace("{path!r}", repr(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, readable, secret, temp],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "text True True True True True True 5\n"
    assert (readable / "x").read_text() == "text"


UNCHECKED = """
import sys
from pathlib import Path
sys.path[:] = {path!r}
import duckdb
from droptape.analyze import open_recording, sandbox
recording, own, temp, confined = sys.argv[1:]
if confined == "yes":
    assert sandbox.restrict([Path(recording)], Path(temp))
with open_recording(recording, temp_folder=temp) as rec:
    try:
        rec.connection.execute(f"COPY (SELECT 1) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)")
    except duckdb.Error as exc:
        print("refused")
"""


@needs_landlock
@pytest.mark.parametrize("confined", ["yes", "no"])
def test_sql_that_got_past_the_check_cannot_write_in_the_worker(
    tmp_path: Path, confined: str
) -> None:
    recording, temp = make_incident(tmp_path / "r"), tmp_path / "t"
    temp.mkdir()
    own = min((recording / "drops").iterdir())
    before = own.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", UNCHECKED.replace("{path!r}", repr(sys.path)),
         recording, own, temp, confined],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Without Landlock DuckDB does write: this is why the worker is confined.
    assert done.stdout == ("refused\n" if confined == "yes" else "")
    assert (own.read_bytes() == before) is (confined == "yes")


@needs_landlock
def test_the_worker_is_confined(incident: Path) -> None:
    with Client([str(incident)]) as client:
        assert client.confined


def test_a_query_that_takes_too_long_is_stopped(incident: Path) -> None:
    # One string of gigabytes: DuckDB's interrupt would not stop it in time.
    query = "SELECT max(length(repeat('x', 1000000 + range))) FROM range(100000000)"
    started = time.monotonic()
    with Client([str(incident)]) as client:
        with pytest.raises(QueryTimeoutError, match="--timeout"), client.ask(query, 0.5) as reader:
            reader.read_all()
        assert time.monotonic() - started < 10
        process = client._process
    assert process.poll() is not None


def test_temporary_files_are_removed(
    incident: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Client([str(incident)]) as client:
        assert len(list(tmp_path.iterdir())) == 1
        with client.ask("SELECT 1") as reader:
            reader.read_all()
    assert not list(tmp_path.iterdir())


def test_memory_is_bounded(incident: Path) -> None:
    query = "SELECT list(x) FROM range(100000000) AS t(x)"
    with Client([str(incident)], memory_limit="100MB") as client:
        with pytest.raises(QueryError, match="memory"), client.ask(query) as reader:
            reader.read_all()
        with client.ask("SELECT 1 AS a") as reader:
            assert reader.read_all().to_pylist() == [{"a": 1}]


def test_an_error_half_way_is_reported(incident: Path) -> None:
    query = "SELECT CASE WHEN x > 900000 THEN error('late') ELSE x END FROM range(1000000) AS t(x)"
    with Client([str(incident)]) as client:
        with pytest.raises(QueryError, match="late"), client.ask(query) as reader:
            for _ in reader:
                pass
        with client.ask("SELECT 2 AS a") as reader:
            assert reader.read_all().to_pylist() == [{"a": 2}]


def test_an_answer_that_is_not_read_to_its_end_does_not_disturb_the_next(incident: Path) -> None:
    with Client([str(incident)]) as client:
        with client.ask("SELECT x FROM range(300000) AS t(x)") as reader:
            assert reader.read_next_batch().num_rows > 0
        with client.ask("SELECT 3 AS a") as reader:
            assert reader.read_all().to_pylist() == [{"a": 3}]


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="does not exist"):
        Client([str(tmp_path / "nothing")])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_the_worker_does_not_outlive_its_parent(incident: Path) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import os, signal\nfrom droptape.analyze.client import Client\n"
        f"client = Client([{str(incident)!r}])\nprint(client._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker still runs")


def test_what_was_removed_between_two_queries_is_not_asked(tmp_path: Path) -> None:
    """A session may last for hours, and a rolling recording goes on."""
    maker = Maker(tmp_path / "rec")
    maker.seal("drops", DROPS[:2])
    maker.seal("drops", DROPS[2:])
    with Client([str(maker.finish())]) as client:
        for rows in (4, 2):  # with an address
            with client.ask("SELECT count(saddr) AS n FROM drops") as reader:
                assert reader.read_all().to_pylist() == [{"n": rows}]
            if rows == 4:
                remove_the_first(maker.path)


def test_numbers_that_would_be_others_are_refused(incident: Path) -> None:
    with Client([str(incident)]) as client:
        for kind in ("UHUGEINT", "BIGNUM"):
            for value in (f"5::{kind}", f"[5::{kind}]", f"{{'x': 5::{kind}}}"):
                message = f"^a is {kind}, which no format has: cast it to VARCHAR$"
                with pytest.raises(QueryError, match=message), client.ask(f"SELECT {value} AS a"):
                    pass
        with client.ask("SELECT ((1::UHUGEINT << 127) - 1 + (1::UHUGEINT << 127))::VARCHAR") as got:
            assert got.read_all().to_pylist()[0].popitem()[1] == str((1 << 128) - 1)
