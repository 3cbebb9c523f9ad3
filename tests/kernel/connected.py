"""Asking for the connections of one test: fixtures and queries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from kernel.recorded import ask
from lab import Host, Lab
from lab.recorder import Recorder

EVENTS = ("--events", "connections")
Pair = tuple[Host, Host, dict[int, str]]
_began = 0


@pytest.fixture(scope="module")
def recorder(kernel: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """One recorder of connections for all tests of a module."""
    with Recorder(tmp_path_factory.mktemp("recorded") / "rec", *EVENTS) as recorder:
        yield recorder


@pytest.fixture
def pair(lab: Lab) -> Pair:
    """Return a server, a client, and the server's addresses by version."""
    server, client = lab.host("server"), lab.host("client")
    return server, client, lab.link(server, client).addresses[server]


@pytest.fixture(autouse=True)
def began() -> None:
    """Other labs on this host may have used the numbers of our namespaces before us."""
    global _began
    _began = time.monotonic_ns()


def of(host: Host) -> str:
    """Return the condition for rows of `host`."""
    return f"netns = {host.inum} AND mono_ns > {_began}"


def rows_of(recorder: Recorder, host: Host, columns: str) -> list[tuple[Any, ...]]:
    """Return these columns of a host's rows, in the order of their ends."""
    return ask(recorder, f"SELECT {columns} FROM connections WHERE {of(host)} ORDER BY mono_ns")


def row_of(recorder: Recorder, host: Host) -> dict[str, Any]:
    """Return the only row of a host, by column."""
    names = [name for (name,) in ask(recorder, "SELECT column_name FROM (DESCRIBE connections)")]
    (row,) = rows_of(recorder, host, ", ".join(names))
    return dict(zip(names, row, strict=True))
