"""Homes on a server that is gone, and other disks that hang."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.recorder import container_names
from droptape.recorder.cgroups import Cgroups
from droptape.recorder.container_names import ContainerNames
from droptape.recorder.patience import BusyError, Patience

ID = "4f6c0b1b2d8a9e7f3c5d6e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b"


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let users' homes answer only when this is set."""
    answering = threading.Event()
    lists = [json.dumps([{"id": ID, "names": ["web"]}]).encode()]

    def read(_places: Path, _inner: str) -> Iterator[bytes]:
        answering.wait(30)
        yield from lists

    monkeypatch.setattr(container_names, "read_of_users", read)
    yield answering
    answering.set()


def test_a_home_that_does_not_answer_holds_nobody(hang: threading.Event, tmp_path: Path) -> None:
    docker = tmp_path / f"var/lib/docker/containers/{ID}/config.v2.json"
    docker.parent.mkdir(parents=True)
    docker.write_text('{"Name": "/shop"}')
    names = ContainerNames(tmp_path)
    start = time.monotonic()
    for _ in range(100):
        with pytest.raises(BusyError):
            names.name(ID, "podman")
    assert time.monotonic() - start < 5
    assert threading.active_count() < 20
    assert names.name(ID, "docker") == "shop"


def test_a_group_has_its_row_when_its_name_is_known(hang: threading.Event, tmp_path: Path) -> None:
    group = tmp_path / "cgroup" / f"libpod-{ID}.scope"
    group.mkdir(parents=True)
    number = group.stat().st_ino
    groups = Cgroups(tmp_path / "cgroup", ContainerNames(tmp_path))
    assert groups.rows([number]) == []
    group.rmdir()
    hang.set()
    deadline = time.monotonic() + 20
    while not (rows := groups.rows([])):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [(row["id"], row["name"]) for row in rows] == [(number, "web")]
    assert groups.rows([]) == []


def test_at_the_end_a_group_has_its_row_without_a_name(
    hang: threading.Event, tmp_path: Path
) -> None:
    group = tmp_path / "cgroup" / f"libpod-{ID}.scope"
    group.mkdir(parents=True)
    groups = Cgroups(tmp_path / "cgroup", ContainerNames(tmp_path))
    assert groups.rows([group.stat().st_ino]) == []
    (row,) = groups.rows([], last=True)
    assert (row["container"], row["name"]) == (ID[:12], None)


def test_what_goes_wrong_comes_out() -> None:
    patience = Patience()
    with pytest.raises(ZeroDivisionError):
        patience.ask(lambda: 1 // 0)
    assert patience.ask(lambda: 2) == 2
