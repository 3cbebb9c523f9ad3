"""Ctrl-C or SIGTERM at any moment: its exit code, nothing printed, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unit.analyze.make import Maker
from unit.analyze.test_cli import BASE, ENV, SLOW
from unit.analyze.test_verify import moved, refusals, total

MOMENTS = 6
STOPPED = (130, b"", b"")
# What comes before is Python's own start.
READY = "os.close({ready}); from droptape.analyze.cli import main; main()"
WATCHING = "import os; from droptape.analyze import interrupt; interrupt.watch(); " + READY
FAILING = """
import signal, sys
from droptape.analyze import Recording, interrupt
from droptape.analyze.cli import main
from droptape.analyze.errors import QueryError

class Gone:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def verify(rec):
    if {how!r} == "held":
        with interrupt.later():
            signal.raise_signal(signal.SIGINT)
            sys.stderr.write("held")
    if {how!r} == "lost":
        Gone()
        while True:
            pass
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        if {how!r} == "runtime":
            raise RuntimeError("Query interrupted") from None
        if {how!r} == "ours":
            raise QueryError("counting failed: KeyboardInterrupt") from None
    return real(rec)

real, Recording.verify = Recording.verify, verify
main()
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with many small segments, most of the time of which goes into DuckDB."""
    maker = Maker(tmp_path_factory.mktemp("many") / "r")
    maker.symbols()
    for second in range(20):
        maker.seal("listen", refusals(20, start=second))
        maker.seal("totals", [total(20)])
        maker.seal("counters", moved(50))
    maker.journal("listen", refusals(20, start=50))
    return maker.finish()


def started(*args: object, temp: Path | None = None) -> subprocess.Popen[bytes]:
    ready, at = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHING.format(ready=at), *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[at],
        env=ENV | ({"TMPDIR": str(temp)} if temp else {}),
    )  # fmt: skip
    os.close(at)
    os.read(ready, 1)
    os.close(ready)
    return process


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("command", "number"),
    [("verify", signal.SIGINT), ("report", signal.SIGINT), ("verify", signal.SIGTERM)],
)
def test_at_any_moment(many: Path, tmp_path: Path, command: str, number: signal.Signals) -> None:
    target, temp = tmp_path / "report.html", tmp_path / "temp"
    temp.mkdir()
    args = [command, many, *(["-o", target] if command == "report" else [])]
    begun = time.monotonic()
    whole = ended(started(*args, temp=temp))
    took = time.monotonic() - begun
    for at in random.Random(1).sample(range(100), MOMENTS):
        target.unlink(missing_ok=True)
        process = started(*args, temp=temp)
        time.sleep(took * at / 100)
        process.send_signal(number)
        assert ended(process) in ((128 + number, b"", b""), whole), at
        assert {*tmp_path.iterdir()} - {target} == {temp}
        assert list(temp.iterdir()) == []


@pytest.mark.parametrize("how", ["runtime", "ours", "nothing", "lost", "held"])
def test_what_fails_or_goes_on_after_it(incident: Path, how: str) -> None:
    code = FAILING.format(how=how)
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(incident)],
        capture_output=True, env=ENV, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == STOPPED[:2]
    assert done.stderr == (b"held" if how == "held" else b"")


def test_an_ignored_one_stays_ignored(incident: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = started("summary", incident)
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    assert ended(process)[::2] == (0, b"")


def test_the_shell_stops_the_query_and_goes_on(incident: Path) -> None:
    process = subprocess.Popen(
        [*BASE, "shell", str(incident)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(f"{SLOW};\n".encode())
    process.stdin.flush()
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(b"SELECT 7 AS last;\n", timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"stopped\n")
    assert out.split()[-1] == b"7"


@pytest.mark.parametrize("busy", [False, True])
def test_the_shell_ends_with_sigterm(incident: Path, busy: bool) -> None:
    process = subprocess.Popen(
        [*BASE, "shell", str(incident)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(f"{SLOW};\n".encode() if busy else b"")
    process.stdin.flush()
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[::2] == (128 + signal.SIGTERM, b"")
