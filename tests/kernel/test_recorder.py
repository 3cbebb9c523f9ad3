"""The recorder as its users meet it: how it starts, ends, fails, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.format.layout import being_recorded
from kernel.recorded import NO_SOCKET, ask, one
from lab import Lab
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import closed_tcp_port, refuse_syns, send_syns, start_listener
from lab.wire import Wire

RECORD = str(PROGRAMS / "droptape-record")


def record(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RECORD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def manifest(folder: Path) -> dict[str, object]:
    data = json.loads((folder / "recording.json").read_text())
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_seals_and_ends_with_0(lab: Lab, tmp_path: Path, number: signal.Signals) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec") as recorder:
        assert being_recorded(recorder.folder)
        closed_tcp_port(server, client, link.address(server), count=7)
        assert recorder.stop(number) == 0
    assert recorder.output == ""
    assert not list(recorder.folder.rglob("*.journal"))
    assert not (recorder.folder / "recorder.lock").exists()
    ended = manifest(recorder.folder)
    assert ended["state"] == "complete"
    assert ended["ended_by"] == number.name
    sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
    assert one(recorder, sql) == 7


def test_the_duration_ends_it(tmp_path: Path) -> None:
    done = record("-o", tmp_path / "rec", "--duration", "500ms")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert manifest(tmp_path / "rec")["ended_by"] == "the duration ended"


def test_the_end_of_a_command_ends_it_with_its_code(lab: Lab, tmp_path: Path) -> None:
    done = record("-o", tmp_path / "rec", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert manifest(tmp_path / "rec")["ended_by"] == "the command ended"


def test_a_command_killed_by_a_signal(tmp_path: Path) -> None:
    assert record("-o", tmp_path / "rec", "--", "sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--events", "drops,nonsense"],
            r"unknown event kind 'nonsense': known are connections, drops, ",
        ),
        (["--events", ""], "no event kind given"),
        (["--duration", "soon"], "'soon' is not a duration"),
        (["--rotate-size", "big"], "'big' is not a size"),
        (["--", "no-such-command-here"], "'no-such-command-here' is not there"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["stray"], "put -- before the command"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = record("-o", tmp_path / "rec", *arguments)
    assert done.returncode == 2
    assert re.search(says, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "rec").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = record("-o", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "exists already" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_missing_parent(tmp_path: Path) -> None:
    done = record("-o", tmp_path / "no" / "rec")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not a folder" in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_bcc(tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("raise ImportError('no bcc here')\n")
    done = record("-o", tmp_path / "rec", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "install python3-bpfcc" in done.stderr
    assert not (tmp_path / "rec").exists()


def test_without_privilege(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", RECORD]
    done = subprocess.run(
        [*command, "-o", "rec"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.fail(f"nobody cannot run the program here: {done.stderr}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run it with sudo" in done.stderr
    assert not list(tmp_path.iterdir())


def test_check_names_every_probe() -> None:
    done = record("--check")
    assert done.stderr == ""
    for name in ("BTF", "drops/kfree_skb", "listen/", "retransmits/", "resets/", "owners/scan"):
        assert name in done.stdout
    assert (" NO" in f" {done.stdout}") == (done.returncode != 0)


def test_live_lines(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Recorder(tmp_path / "rec", "--live") as recorder, Wire(server) as wire:
        refused = refuse_syns(server, wire, comm="auction-server")
        recorder.stop()
    client, listener = refused.clients[0], refused.listener
    line = re.escape(
        f" refused accept_queue_full {client.address}:{client.port} > "
        f"{listener.local.address}:{listener.local.port} owner auction-server[{listener.pid}]"
    )
    assert re.search(rf"^\[\d\d:\d\d:\d\d\.\d\d\d\]{line}$", recorder.output, re.MULTILINE)


def test_live_says_how_much_it_left_out(lab: Lab, tmp_path: Path) -> None:
    from lab.trouble import closed_udp_port

    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec", "--live", "--events", "drops") as recorder:
        closed_udp_port(server, client, link.address(server), count=2000)
        recorder.stop()
    shown = len(re.findall(r"^\[.*\] drop ", recorder.output, re.MULTILINE))
    told = re.findall(r"\.\.\. ([\d,]+) more", recorder.output)
    left_out = [int(number.replace(",", "")) for number in told]
    with open_recording(recorder.folder) as recording:
        ((rows,),) = recording.sql("SELECT count(*) FROM drops").fetchall()
    assert left_out
    assert shown + sum(left_out) == rows >= 2000


def test_only_the_kinds_that_were_asked_for(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec", "--events", "resets") as recorder:
        closed_tcp_port(server, client, link.address(server))
        recorder.stop()
    with open_recording(recorder.folder) as recording:
        assert "drops" not in recording.tables
        ((rows,),) = recording.sql("SELECT count(*) FROM resets").fetchall()
        assert rows >= 20


def test_rotation_loses_and_doubles_nothing(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    options = ("--rotate-every", "1s", "--rotate-size", "8KB")
    with Recorder(tmp_path / "rec", *options) as recorder:
        for _ in range(4):
            closed_tcp_port(server, client, link.address(server), count=200)
            time.sleep(0.8)
        recorder.stop()
    assert len(list((recorder.folder / "drops").glob("*.parquet"))) >= 3
    sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
    assert one(recorder, sql) == 800


def test_after_kill_9_everything_journalled_is_there(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
    with Recorder(tmp_path / "killed") as recorder:
        closed_tcp_port(server, client, link.address(server), count=50)
        time.sleep(0.5)
        recorder.kill()
    assert one(recorder, sql) == 50
    with Recorder(tmp_path / "next") as following:
        deadline = time.monotonic() + 10
        while manifest(recorder.folder)["state"] == "recording" and time.monotonic() < deadline:
            time.sleep(0.1)
        following.stop()
    assert manifest(recorder.folder)["state"] == "recovered"
    assert not list(recorder.folder.rglob("*.journal"))
    assert one(recorder, sql) == 50


def test_two_recorders_at_once(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
    with Recorder(tmp_path / "a") as first, Recorder(tmp_path / "b") as second:
        closed_tcp_port(server, client, link.address(server), count=30)
        assert one(first, sql) == one(second, sql) == 30
        first.stop()
        closed_tcp_port(server, client, link.address(server), count=12)
        assert one(second, sql) == 42
    assert one(first, sql) == 30


def test_a_listener_from_before_the_start(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Wire(server) as wire:
        listener = start_listener(server, wire.local(4), backlog=1, comm="old-server")
        for number in range(2):
            from lab.trouble import connect

            connect(wire, listener.local, [wire.remote(number, 4)])
        with Recorder(tmp_path / "rec") as recorder, server.counting() as counted:
            send_syns(wire, listener.local, [wire.remote(n, 4) for n in range(100, 115)])
            rows = ask(
                recorder,
                f"""SELECT owner_pid, owner_comm, lport, event, sum(weight) FROM listen
                    WHERE netns = {server.inum} GROUP BY ALL""",
            )
        listener.close()
    port = listener.local.port
    assert rows == [(listener.pid, "old-server", port, "accept_queue_full", 15)]
    assert counted["TcpExt.ListenDrops"] == 15


def test_drops_of_normal_operation_are_counted_not_recorded(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec") as recorder:
        # Each refused connect also makes the client drop what is left of its socket.
        closed_tcp_port(server, client, link.address(server))
        recorder.stop()
    where = f"netns IN ({server.inum}, {client.inum})"
    assert one(recorder, f"SELECT count(*) FROM drops WHERE benign AND {where}") == 0
    ((events, recorded),) = ask(
        recorder,
        f"SELECT sum(events), sum(recorded) FROM totals WHERE kind = 'drops' AND {where} "
        "AND NOT benign",
    )
    assert events == recorded == 10


def test_the_recorder_process_stays_small(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec") as recorder:
        maps = Path(f"/proc/{recorder.pid}/maps").read_text()
        children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text()
    assert children == ""
    for name in ("libbcc", "libLLVM", "duckdb"):
        assert name not in maps


def test_the_module_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "droptape.recorder", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("droptape-record ")


def test_under_sudo_the_recording_belongs_to_the_caller(tmp_path: Path) -> None:
    done = record("-o", tmp_path / "rec", "--duration", "300ms", SUDO_UID="65534", SUDO_GID="65533")
    assert done.returncode == 0
    for path in (tmp_path / "rec", *(tmp_path / "rec").rglob("*")):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (65534, 65533), path
        assert status.st_mode & 0o007 == 0


def test_a_group_may_read_while_it_is_recorded(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec", "--group", "65533") as recorder:
        time.sleep(1.5)
        for path in (recorder.folder, *recorder.folder.rglob("*")):
            assert path.stat().st_gid == 65533, path
    done = record("-o", tmp_path / "other", "--group", "no-such-group")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "other").exists()
