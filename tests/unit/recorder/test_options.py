"""Sizes, durations and event kinds, as users write them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.recorder import cli
from droptape.recorder.options import (
    Options,
    UsageError,
    parse_btf,
    parse_descriptor,
    parse_duration,
    parse_events,
    parse_rate,
    parse_size,
)
from droptape.recorder.ownership import choose


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10x", "m10", "10m5", "-5s", "0", "0s", "1h 30m", "∞"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("1k", 1024),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1 GB", 1 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "0", "64XB", "1e3", "64MBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(UsageError):
            assert parse(text) > 0


def test_events() -> None:
    known = ("drops", "listen")
    assert parse_events("drops, listen,drops,", known) == known
    with pytest.raises(UsageError, match="unknown event kind 'drop': known are drops, listen"):
        parse_events("drop", known)
    with pytest.raises(UsageError, match="no event kind"):
        parse_events(" ,", known)


def test_the_manifest_learns_no_paths_and_no_arguments() -> None:
    options = Options(Path("/secret/rec"), ("drops",), command=("/opt/bin/tool", "--password", "x"))
    plain = options.to_json()
    assert plain["command"] == "tool"
    assert "secret" not in str(plain)
    assert "password" not in str(plain)


@pytest.mark.parametrize("text", ["9" * 400, "1001d"])
def test_no_duration_is_endless(text: str) -> None:
    with pytest.raises(UsageError, match="too long"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "GB", "0.1", "2000000000MB", ""])
def test_sizes_that_no_disk_has(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 5000, "-1", "", "1e3"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of rows"):
        parse_rate(text)


@pytest.mark.parametrize("number", [-1, 10**6, 2**40])
def test_a_descriptor_has_to_be_open(number: int) -> None:
    with pytest.raises(UsageError, match="no file is open"):
        parse_descriptor(number)
    assert parse_descriptor(0) == 0


@pytest.mark.parametrize("option", ["--duration", "--disk-budget", "--rotate-every"])
def test_an_empty_value_is_no_value(option: str) -> None:
    with pytest.raises(UsageError, match="''"):
        cli._options(cli.parser().parse_args([option, ""]))


@pytest.mark.parametrize("group", ["99999999999999", str(2**32 - 1), "no-such-group", "²"])
def test_what_is_no_group(group: str) -> None:
    with pytest.raises(UsageError, match="no group"):
        choose(group)


@pytest.mark.parametrize("text", ["99999999999", str(2**32 - 1), "9" * 5000, "-1", "nobody"])
def test_what_sudo_never_says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", text)
    with pytest.raises(UsageError, match="SUDO_UID"):
        choose(None)
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", text)
    with pytest.raises(UsageError, match="SUDO_GID"):
        choose(None)
    monkeypatch.setenv("SUDO_GID", "")
    assert choose(None).uid == 1000


def test_btf_that_may_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="no regular file"):
            parse_btf(str(path))
    for text in str(tmp_path / "none"), "\0":
        with pytest.raises(UsageError, match=r"none|no name"):
            parse_btf(text)
