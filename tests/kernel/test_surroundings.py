"""What the recorder's surroundings do to it: terminals, pipes, signals, modes, folders."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Lab
from lab.recorder import PROGRAMS
from lab.trouble import closed_udp_port

RECORD = str(PROGRAMS / "droptape-record")
SLOW_S = 60
"""Against a recorder that hangs."""


def ended(folder: Path) -> tuple[str, int]:
    """State of a recording, and how many journals are left in it."""
    state = json.loads((folder / "recording.json").read_text())["state"]
    return state, len(list(folder.rglob("*.journal")))


@contextmanager
def start(*arguments: str | Path, **streams: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start the recorder and go on when it records."""
    reader, writer = os.pipe()
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [RECORD, "--ready-fd", str(writer), *map(str, arguments)],
        pass_fds=[writer],
        **streams,  # type: ignore[call-overload]
    )
    os.close(writer)
    with process:
        try:
            assert os.read(reader, 16) == b"ready\n"
            yield process
        finally:
            os.close(reader)
            process.kill()


def flood(lab: Lab) -> None:
    """Some seconds of drops, more than a pipe takes as text."""
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    for _ in range(15):
        closed_udp_port(server, client, link.address(server), count=300)
        time.sleep(0.2)


def test_a_pager_that_does_not_read_on_holds_nothing(lab: Lab, tmp_path: Path) -> None:
    with start("-o", tmp_path / "rec", "--live", stdout=subprocess.PIPE) as process:
        flood(lab)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SLOW_S) == 0
        assert ended(tmp_path / "rec") == ("complete", 0)
        assert process.stdout
        shown = process.stdout.read()
        assert b"NO_SOCKET" in shown
        assert shown.count(b"\n") < 4500


def test_a_reader_that_goes_ends_it_in_order(lab: Lab, tmp_path: Path) -> None:
    with start("-o", tmp_path / "rec", "--live", stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        flood(lab)
        assert process.wait(SLOW_S) == 0
        assert ended(tmp_path / "rec") == ("complete", 0)


def test_a_terminal_that_goes_costs_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with start("-o", tmp_path / "rec", "--duration", "4s", stderr=theirs) as process:
        os.close(theirs)
        time.sleep(1.5)
        assert b"recording" in os.read(ours, 4096)
        os.close(ours)
        assert process.wait(SLOW_S) == 0
        assert ended(tmp_path / "rec") == ("complete", 0)


def test_a_terminal_that_stands_still_holds_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with start("-o", tmp_path / "rec", "--duration", "2s", stderr=theirs) as process:
        os.write(ours, b"\x13")  # Ctrl-S
        deadline = time.monotonic() + SLOW_S
        while not (tmp_path / "rec").exists() or ended(tmp_path / "rec")[0] != "complete":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.write(ours, b"\x11")  # Ctrl-Q
        assert process.wait(SLOW_S) == 0
        os.close(ours)
        os.close(theirs)


def closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("numbers", [(2,), (0, 1), (0, 1, 2)])
def test_closed_standard_streams_are_no_trouble(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    command = [RECORD, "-o", str(tmp_path / "rec"), "--live", "--", "sh", "-c", "exit 3"]
    process = subprocess.Popen(command, preexec_fn=closed(*numbers))
    assert process.wait(SLOW_S) == 3
    assert ended(tmp_path / "rec") == ("complete", 0)


def test_nohup_is_respected(tmp_path: Path) -> None:
    with start(
        "-o", tmp_path / "rec", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(SLOW_S) == 0


def _loader(pid: int) -> int | None:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"droptape.bpf.loader" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    command = [RECORD, "-o", tmp_path / "rec", "--", "touch", tmp_path / "ran"]
    process = subprocess.Popen(list(map(str, command)))
    deadline = time.monotonic() + SLOW_S
    with process:
        try:
            loader = None
            while loader is None:
                assert time.monotonic() < deadline
                loader = _loader(process.pid)
            os.kill(loader, signal.SIGSTOP)  # it would never be done
            time.sleep(2)
            process.send_signal(number)
            assert process.wait(SLOW_S) == 128 + number
        finally:
            process.kill()
    assert not Path(f"/proc/{loader}").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_group_may_read_whatever_the_umask_is(tmp_path: Path) -> None:
    command = [RECORD, "-o", str(tmp_path / "rec"), "--group", "adm", "--", "true"]
    subprocess.run(command, preexec_fn=lambda: os.umask(0o077), check=True)
    paths = [tmp_path / "rec", *(tmp_path / "rec").rglob("*")]
    modes = {stat.S_IMODE(p.stat().st_mode) & 0o777 for p in paths if p.is_file()}
    assert modes == {0o640}
    assert {stat.S_IMODE(p.stat().st_mode) & 0o777 for p in paths if p.is_dir()} == {0o750}


def test_no_temporary_folder_is_needed(tmp_path: Path) -> None:
    # /run is elsewhere than what is made read only.
    with tempfile.TemporaryDirectory(dir="/run") as place:
        script = """
        for folder in /tmp /var/tmp; do
            mount --bind $folder $folder && mount -o remount,bind,ro $folder || exit 99
        done
        cd /proc && exec "$@"
        """
        command = ["unshare", "-m", "sh", "-c", script, "sh", RECORD, "-o", f"{place}/rec"]
        assert subprocess.run([*command, "--", "true"], check=False).returncode == 0
        assert ended(Path(place) / "rec") == ("complete", 0)


def test_root_runs_nothing_from_the_folder_it_is_in(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for module in ("json", "array", "socket", "numpy", "droptape", "bcc", "sitecustomize"):
        text = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        (there / f"{module}.py").write_text(text)
    command = [RECORD, "-o", str(tmp_path / "rec"), "--", "true"]
    subprocess.run(command, cwd=there, check=True)
    assert not (there / "ran").exists()
    assert ended(tmp_path / "rec") == ("complete", 0)


def test_in_a_time_namespace_it_does_not_record(tmp_path: Path) -> None:
    command = ["unshare", "-T", "--monotonic", "86400", "--fork", RECORD]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "rec"), "--", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "time namespace" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_replaced_is_left_alone(tmp_path: Path) -> None:
    with start("-o", tmp_path / "rec", stderr=subprocess.PIPE) as process:
        (tmp_path / "rec").rename(tmp_path / "old")
        (tmp_path / "rec").mkdir()
        (tmp_path / "rec" / "recording.json").write_text("mine")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SLOW_S)
        assert process.returncode == 2
        assert b"deleted or moved" in said
        assert (tmp_path / "rec" / "recording.json").read_text() == "mine"


def test_too_few_descriptors_are_told(tmp_path: Path) -> None:
    command = ["prlimit", "--nofile=40", RECORD, "-o", str(tmp_path / "rec"), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "open files" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--check", "--print-completion=bash"])
def test_output_that_cannot_be_written_is_told(option: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [RECORD, option], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    expected = "droptape-record: standard output cannot be written: No space left on device\n"
    assert done.stderr == expected


@pytest.mark.parametrize(
    ("around", "says"),
    [
        (["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"], "/proc"),
        (["unshare", "-Ur"], "outside this user namespace"),
    ],
)
def test_where_nothing_can_be_recorded_it_says_why(
    tmp_path: Path, around: list[str], says: str
) -> None:
    command = [*around, RECORD, "-o", str(tmp_path / "rec"), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare"):
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []
