"""The last pass over what the kernel side knows, while events keep coming."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.bpf.kinds import all_kinds
from droptape.recorder import sweep
from droptape.recorder.session import _Session
from droptape.recorder.sweep import sweep_first, sweep_last

KEYS = 10


class _Flooded:
    """A feed whose rings are never empty while the probes are attached."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.drained = 0

    def drain(self, _offset: int, *, last: bool) -> float:
        assert last
        assert "link:connections/close" in self.loaded.fds
        self.drained += 1
        return 0.5

    def drain_all(self, _offset: object) -> bool:
        assert not [name for name in self.loaded.fds if name.startswith("link:")]
        return True


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    last = all_kinds()["connections"].last
    assert last is not None
    monkeypatch.setattr(sweep, "_AT_ONCE", 4)
    monkeypatch.setattr(syscall, "map_shape", lambda _: syscall.MapShape(1, 8, 8, KEYS, 0))
    monkeypatch.setattr(
        syscall, "map_items", lambda *_: (np.arange(KEYS, dtype="u8"), np.zeros(KEYS, "V8"))
    )
    fds = {f"program:{last.function}": -1, f"map:{last.map}": -1}
    return Loaded(["connections"], [], [], 1, 16, fds)


def test_the_rings_are_drained_between_the_steps(
    monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(syscall, "run", lambda _, key: done.append(key))
    sweep_last(loaded, lambda: done.append("drain"))
    assert done == ["drain", 0, 1, 2, 3, "drain", 4, 5, 6, 7, "drain", 8, 9, "drain"]


def test_the_rings_are_drained_while_a_recording_begins(
    monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    first = all_kinds()["connections"].first
    assert first is not None
    loaded.fds |= {f"program:{first.function}": -1, f"map:{first.map}": -1}
    done: list[Any] = []
    monkeypatch.setattr(syscall, "run", lambda _, key: done.append(key))
    sweep_first(loaded, lambda: done.append("drain"))
    assert done.count("drain") == 4
    session: Any = object.__new__(_Session)
    session._feed = SimpleNamespace(drain=done.append)
    session._wall_offset_ns = lambda: 77
    session._take_rows()
    assert done[-1] == 77


def test_the_end_does_not_wait_for_events_that_keep_coming(
    monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    monkeypatch.setattr(syscall, "run", lambda *_: None)
    loaded.fds["link:connections/close"] = os.open(os.devnull, os.O_RDONLY)
    session: Any = object.__new__(_Session)
    session._loaded, session._feed = loaded, _Flooded(loaded)
    session._wall_offset_ns, session._sampler = lambda: 0, SimpleNamespace(stop=lambda: None)
    session._detach()
    session._drain()
    assert session._feed.drained == 4
    assert [name for name in loaded.fds if name.startswith("link:")] == []
