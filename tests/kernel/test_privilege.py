"""With how little privilege the recorder works, and what it gives up."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from kernel.recorded import NO_SOCKET
from lab import Lab
from lab.recorder import PROGRAMS, Recorder
from lab.trouble import closed_udp_port

RECORD = str(PROGRAMS / "droptape-record")
SERVICE = ("bpf", "perfmon", "syslog", "net_admin", "sys_admin", "sys_ptrace", "dac_read_search")
LATER = 1 << 2 | 1 << 19 | 1 << 21 | 1 << 34
"""DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN and SYSLOG."""
NOBODY = 65534


def with_only(capabilities: Sequence[str]) -> list[str]:
    """Return the start of a command line that runs something as nobody, with `capabilities`."""
    named = "".join(f",+{name}" for name in capabilities)
    sets = [f"--{which}=-all{named}" for which in ("bounding-set", "inh-caps", "ambient-caps")]
    return ["setpriv", *sets, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def status(pid: int) -> list[dict[str, str]]:
    """What /proc says of each thread."""
    threads = sorted(Path(f"/proc/{pid}/task").iterdir())
    return [
        {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}
        for text in ((thread / "status").read_text() for thread in threads)
    ]


@pytest.mark.parametrize("user", [0, NOBODY])
def test_what_is_not_needed_is_given_up(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    if user:
        monkeypatch.setenv("SUDO_UID", str(user))
        monkeypatch.setenv("SUDO_GID", str(user))
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec") as recorder:
        for thread in status(recorder.pid):
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(thread[kind], 16) & ~LATER == 0, (thread["Name"], kind)
            assert thread["NoNewPrivs"] == "1"
            assert thread["Uid"].split() == [str(user)] * 4
            assert int(thread["CapBnd"], 16) & ~LATER == 0
        closed_udp_port(server, client, link.address(server), count=50)
        time.sleep(1.5)
        recorder.stop()
    manifest = Manifest.read(recorder.folder)
    assert manifest.notes == []
    with open_recording(recorder.folder) as recording:
        sql = f"SELECT count(*) FROM drops WHERE netns = {server.inum} AND {NO_SOCKET}"
        assert recording.sql(sql).fetchall() == [(50,)]
        sql = (
            f"SELECT max(value) FROM counters WHERE netns = {server.inum} AND name = 'Udp.NoPorts'"
        )
        assert recording.sql(sql).fetchall() == [(50,)]
        assert recording.verify().unexplained == []
    assert {p.stat().st_uid for p in recorder.folder.rglob("*")} == {user}


def test_a_command_keeps_the_privileges_of_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    monkeypatch.setenv("SUDO_GID", str(NOBODY))
    command = ["sh", "-c", "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status; env"]
    ours = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = subprocess.run(
        [RECORD, "-o", tmp_path / "rec", "--", *command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    def lines(text: str) -> set[str]:
        return {line for line in text.splitlines() if not line.startswith(("_=", "PWD="))}

    assert lines(done.stdout) == lines(ours)


def test_a_command_of_root_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    process = subprocess.Popen([RECORD, "-o", tmp_path / "rec", "--", "sleep", "60"])
    deadline = time.monotonic() + 30
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline:
        names = [Path(f"/proc/{c}/comm").read_text() for c in children.read_text().split()]
        if "sleep\n" in names:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM


def test_the_capabilities_of_the_service_suffice(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    host = lab.host("host")
    done = subprocess.run(
        [*with_only(SERVICE), RECORD, "-o", "rec", "--duration", "2s"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    manifest = Manifest.read(tmp_path / "rec")
    assert [p.name for p in manifest.probes if not p.attached] == []
    assert manifest.notes == []
    with open_recording(tmp_path / "rec") as recording:
        sql = f"SELECT count(*) FROM counters WHERE netns = {host.inum}"
        assert recording.sql(sql).fetchall()[0][0] > 0


def test_without_sys_admin_other_namespaces_are_missing_and_it_says_so(lab: Lab) -> None:
    lab.host("host")
    # Not pytest's folder, which nobody but root may enter.
    with tempfile.TemporaryDirectory(prefix="droptape-") as name:
        Path(name).chmod(0o777)
        done = subprocess.run(
            [*with_only(["bpf", "perfmon"]), RECORD, "-o", "rec", "--duration", "2s"],
            cwd=name, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        manifest = Manifest.read(Path(name) / "rec")
    assert [p.name for p in manifest.probes if p.name == "drops/kfree_skb" and p.attached]
    assert any("recorded without CAP_SYS_ADMIN" in note for note in manifest.notes)


def test_a_group_that_is_not_ones_own() -> None:
    with tempfile.TemporaryDirectory(prefix="droptape-") as name:
        Path(name).chmod(0o777)
        done = subprocess.run(
            [*with_only(SERVICE), RECORD, "-o", "rec", "--group", "adm", "--", "true"],
            cwd=name, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "only root and members of group" in done.stderr
        assert list(Path(name).iterdir()) == []


def test_check_names_what_is_lacking(tmp_path: Path) -> None:
    some = [name for name in SERVICE if name not in ("sys_ptrace", "sys_admin", "net_admin")]
    done = subprocess.run(
        [*with_only(some), RECORD, "--check"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    missing = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("NO")]
    assert {"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "owners/udp_socket"} <= set(missing)
    assert "CAP_BPF" not in missing


def test_check_is_right_about_what_sys_admin_serves(tmp_path: Path) -> None:
    done = subprocess.run(
        [*with_only(["sys_admin"]), RECORD, "--check"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["yes", "owners/udp_socket"] in [line[:2] for line in words], done.stdout + done.stderr
    assert "CAP_NET_ADMIN" not in [line[1] for line in words if line[0] == "NO"]


@pytest.mark.parametrize(
    "spoil",
    ["mkdir linux && echo '#error planted' > linux/types.h", "chmod 700 .", "rmdir $PWD"],
)
def test_the_folder_it_is_started_in_does_not_matter(spoil: str) -> None:
    with tempfile.TemporaryDirectory(prefix="droptape-") as name:
        Path(name).chmod(0o755)
        here = Path(name) / "here"
        here.mkdir()
        # Nobody has no place to keep programs, so they are compiled.
        check = [*with_only(["bpf", "perfmon", "sys_admin"]), RECORD, "--check"]
        done = subprocess.run(
            ["sh", "-c", f'{spoil} && exec "$@"', "sh", *check],
            cwd=here, capture_output=True, text=True, check=False,
        )  # fmt: skip
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["yes", "drops/kfree_skb"] in [line[:2] for line in words], done.stdout + done.stderr


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "rec").symlink_to(elsewhere)
    done = subprocess.run(
        [RECORD, "-o", tmp_path / "rec", "--duration", "1s"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not list(elsewhere.iterdir())
