"""What is told of a virtual machine that ended without a result."""

from __future__ import annotations

import pytest

from vm.boot import last_words

CRASH = "[  700.1] Oops: general protection fault, probably for non-canonical address"


def console(before: int, after: int) -> str:
    lines = [f"before {i}" for i in range(before)]
    return "\n".join([*lines, CRASH, *(f"after {i}" for i in range(after))])


def test_without_a_crash_it_is_the_end() -> None:
    said = last_words("\n".join(str(i) for i in range(1000)))
    assert said[-1] == "999"
    assert 20 < len(said) < 100
    assert last_words("one\ntwo") == ["one", "two"]
    assert last_words("") == []


@pytest.mark.parametrize("after", [0, 5, 100, 209])
def test_a_crash_is_told_whole(after: int) -> None:
    said = last_words(console(500, after))
    assert CRASH in said
    assert said[said.index(CRASH) + 1 :] == [f"after {i}" for i in range(after)]


def test_of_a_crash_with_much_behind_it_both_ends_are_told() -> None:
    said = last_words(console(500, 5000))
    assert said[0] == CRASH
    assert said[1:100] == [f"after {i}" for i in range(99)]
    assert "..." in said
    assert said[-1] == "after 4999"
    assert len(said) < 300


def test_a_line_that_repeats_is_told_once() -> None:
    assert last_words("one\n" + "daemon: ended\n" * 500) == ["one", "daemon: ended"]
