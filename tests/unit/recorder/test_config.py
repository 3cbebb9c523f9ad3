"""Options from a file, and the unit that uses them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from droptape.bpf import compiled
from droptape.recorder.cli import _options, parser
from droptape.recorder.config import with_config
from droptape.recorder.options import Options, UsageError
from droptape.recorder.stopping import StoppedError

SHIPPED = Path(__file__).parents[3] / "recorder"


def read(*argv: str) -> Options:
    known = parser()
    return _options(known.parse_args(with_config(argv, known)))


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "record.conf"
    file.write_text(
        "# a comment\n\n disk-budget = 2GB\nrotate-every=5m\ninclude-benign = yes\nlive = no\n"
    )
    options = read("--config", str(file), "--rotate-every", "90s", "--", "sleep", "1")
    assert (options.disk_budget, options.rotate_s) == (2 << 30, 90)
    assert (options.include_benign, options.live) == (True, False)
    assert options.command == ("sleep", "1")
    # A command's own --config is none of ours.
    assert read("--", "prog", "--config", "/nowhere").command == ("prog", "--config", "/nowhere")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense = 1", r"record\.conf, line 1: 'nonsense = 1' is no option"),
        ("\nlive", r"line 2: 'live' is no option"),
        ("live = perhaps", r"line 1: live is yes or no, not 'perhaps'"),
        ("live = yes\nlive = no", r"line 2: live is there twice"),
        ("a" * 10**6, r"line 1: 'a{60}' is no option"),
        ("mark = a", "is no option"),
        ("\ndisk-budget = 1MB", r"record\.conf, line 2: a disk budget of 1MB is too small"),
        ("disk-budget = 2GB # two", r"record\.conf, line 1: '2GB # two' is not a size"),
        ("rotate-size = a", r"record\.conf, line 1: 'a' is not a size"),
        ("rotate-every = a", r"record\.conf, line 1: 'a' is not a duration"),
        ("duration = 0", r"record\.conf, line 1: '0' is not a duration"),
        ("max-rate = -1", r"record\.conf, line 1: '-1' is not a number of rows"),
        ("events = a", r"record\.conf, line 1: unknown event kind 'a'"),
        ("ready-fd = a", r"record\.conf, line 1: argument --ready-fd: invalid int value: 'a'"),
        ("\ngroup = no-such-group", r"record\.conf, line 2: there is no group 'no-such-group'"),
        ("btf = /dev/null", r"record\.conf, line 1: /dev/null is no regular file"),
        ("btf = /nowhere", r"record\.conf, line 1: /nowhere cannot be read: No such file"),
        ("\noutput = a\0b", r"line 2: .* is no option: it has a NUL"),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "record.conf").write_text(text)
    with pytest.raises(UsageError, match=says):
        read("--config", str(tmp_path / "record.conf"))


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "record.conf").write_text("output = a\x0bb\u2028c\r\nlive = yes\n")
    options = read("--config", str(tmp_path / "record.conf"))
    assert (str(options.output), options.live) == ("a\x0bb\u2028c", True)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read("--config", str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        read("--config", str(tmp_path / "binary"))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "record.conf").write_bytes(b"\xef\xbb\xbflive = yes\n")
    assert read("--config", str(tmp_path / "record.conf")).live


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader, writer = os.pipe()  # as the shell's <(...) and /dev/stdin are
    try:
        for path in (tmp_path / "fifo", Path(f"/dev/fd/{reader}"), Path(os.devnull), tmp_path):
            with pytest.raises(UsageError, match=f"{path} is no regular file: --config takes one"):
                read("--config", str(path))
    finally:
        os.close(reader)
        os.close(writer)


def test_the_shipped_file_is_well_formed() -> None:
    shipped = read("--config", str(SHIPPED / "record.conf"))
    assert (shipped.disk_budget, shipped.keep_recordings) == (2 << 30, 2 << 30)


def test_only_names_of_the_recorder_are_of_a_series() -> None:
    shipped = ("--config", str(SHIPPED / "record.conf"))
    assert read(*shipped, "-o", "rec").keep_recordings is None
    with pytest.raises(UsageError, match="with --disk-budget"):
        read("--keep-recordings", "1GB")


def test_a_start_that_always_fails_has_an_end() -> None:
    unit = (SHIPPED / "droptape-record.service").read_text()
    head, _, service = unit.partition("[Service]")
    found = {key: int(value) for key, value in re.findall(r"^(\w+)=(\d+)$", unit, re.MULTILINE)}
    assert "StartLimitBurst=" in head
    assert "RestartSec=" in service
    assert found["StartLimitBurst"] * found["RestartSec"] * 3 < found["StartLimitIntervalSec"]


def test_a_stop_during_the_start_is_no_failure_of_the_unit() -> None:
    unit = (SHIPPED / "droptape-record.service").read_text()
    assert f"\nSuccessExitStatus={StoppedError(signal.SIGTERM).code}\n" in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_well_formed_and_tight(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "droptape-record")
    unit = tmp_path / "droptape-record.service"
    text = (SHIPPED / unit.name).read_text()
    unit.write_text(text.replace("/usr/bin/droptape-record", program))

    def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", *arguments, str(unit)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    verified = analyze("verify", "--man=no", "--recursive-errors=no")
    assert (verified.returncode, verified.stderr) == (0, "")
    security = analyze("security", "--offline=yes", "--no-pager", "--threshold=45")
    assert security.returncode == 0, security.stdout.splitlines()[-1]


def test_the_unit_has_room_for_maps_on_linux_5_10() -> None:
    # It lacks CAP_SYS_RESOURCE, with which the recorder raises the limit itself.
    unit = (SHIPPED / "droptape-record.service").read_text()
    assert "CAP_SYS_RESOURCE" not in unit
    assert "\nLimitMEMLOCK=infinity\n" in unit


def test_the_unit_keeps_its_programs_apart_from_those_of_root() -> None:
    unit = (SHIPPED / "droptape-record.service").read_text()
    (folder,) = re.findall(r"^CacheDirectory=(\S+)$", unit, re.MULTILINE)
    assert Path("/var/cache", folder) != compiled.FOLDER  # systemd would give root's to the user
    assert "\nCacheDirectoryMode=0700\n" in unit


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers here")
@pytest.mark.parametrize("group", ["", "g adm 4 -\n"])
def test_the_user_of_the_unit_is_made(tmp_path: Path, group: str) -> None:
    (tmp_path / "etc/sysusers.d").mkdir(parents=True)
    shutil.copy(SHIPPED / "droptape.sysusers", tmp_path / "etc/sysusers.d/droptape.conf")
    # As on Debian, where the group has its number from the distribution.
    (tmp_path / "etc/sysusers.d/basic.conf").write_text(group)
    command = ["systemd-sysusers", f"--root={tmp_path}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert [line for line in said if not line.startswith("Creating ")] == []
    unit = (SHIPPED / "droptape-record.service").read_text()
    (user,) = re.findall(r"^User=(\w+)$", unit, re.MULTILINE)
    (group_of_unit,) = re.findall(r"^Group=(\w+)$", unit, re.MULTILINE)
    assert f"{user}:x:" in (tmp_path / "etc/passwd").read_text()
    assert f"{group_of_unit}:x:" in (tmp_path / "etc/group").read_text()
    # Its folders cannot be reached by a group (systemd.exec(5)).
    assert "\nDynamicUser=" not in unit


def test_a_config_option_without_its_file() -> None:
    with pytest.raises(UsageError, match="expected one argument"):
        read("--config")
