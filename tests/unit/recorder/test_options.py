"""Sizes, durations and event kinds, as users write them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.recorder.options import (
    Options,
    UsageError,
    parse_duration,
    parse_events,
    parse_size,
)


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
