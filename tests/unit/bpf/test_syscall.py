"""Iterators, without a kernel."""

from __future__ import annotations

import os

import pytest

from droptape.bpf import syscall


def test_an_iterator_is_read_on_after_a_million_silent_elements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[bytes | None] = [b"a", None, None, b"b", None, b""]

    def read(_descriptor: int, _size: int) -> bytes:
        answer = answers.pop(0)
        if answer is None:
            raise BlockingIOError
        return answer

    monkeypatch.setattr(syscall, "_bpf", lambda *_: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr("os.read", read)
    assert syscall.iterate(0) == b"ab"
