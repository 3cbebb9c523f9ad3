"""Emptying the rings at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from droptape.recorder import feed
from droptape.recorder.feed import Feed


def _left(monkeypatch: pytest.MonkeyPatch, fills: Iterator[float]) -> Feed:
    monkeypatch.setattr(feed, "_UNFINISHED_S", 0.01)
    monkeypatch.setattr(Feed, "drain", lambda self, offset, *, last: next(fills))
    return object.__new__(Feed)


def test_it_goes_on_while_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    fills = iter([0.5, 0.5, 0.25, 0.0, 1.0])
    assert _left(monkeypatch, fills).drain_all(lambda: 0)
    assert list(fills) == [1.0]


def test_a_record_that_is_never_finished_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stuck() -> Iterator[float]:
        yield 0.5
        while True:
            yield 0.25

    assert not _left(monkeypatch, stuck()).drain_all(lambda: 0)
