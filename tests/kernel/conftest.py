"""Tests that need a real kernel: root, BTF and bcc.

Where one of these is missing the tests are skipped with the reason, unless
DROPTAPE_REQUIRE_KERNEL=1 says that a skip would hide a failure.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, Lab
from lab.recorder import Recorder

_HERE = Path(__file__).parent


def _missing() -> str | None:
    """Return why no kernel test can run here; None if it can."""
    if os.geteuid() != 0:
        return "not root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF (/sys/kernel/btf/vmlinux)"
    if importlib.util.find_spec("bcc") is None:
        return "bcc is not installed (python3-bpfcc)"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session", autouse=True)
def kernel() -> None:
    reason = _missing()
    if reason is None:
        return
    if os.environ.get("DROPTAPE_REQUIRE_KERNEL") == "1":
        pytest.fail(f"kernel tests are required here, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def spaces(kernel: None) -> Iterator[list[int]]:
    """Descriptors of namespaces, open until the module ends.

    The kernel gives the number of a namespace that is gone to the next one, and the tests of a
    module that share a recorder tell their events by it.
    """
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture
def lab(spaces: list[int]) -> Iterator[Lab]:
    """A lab without hosts; everything in it ends with the test."""
    with Lab() as lab:
        yield lab
        spaces += [os.open(f"/proc/{h.keeper}/ns/net", os.O_RDONLY) for h in lab.hosts.values()]


@pytest.fixture(scope="module")
def recorder(kernel: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """One recorder for all tests of a module; they tell their events by namespace."""
    with Recorder(tmp_path_factory.mktemp("recorded") / "rec", "--include-benign") as recorder:
        yield recorder


@pytest.fixture(scope="module")
def connections(kernel: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """One recorder of connections for all tests of a module."""
    folder = tmp_path_factory.mktemp("connections") / "rec"
    with Recorder(folder, "--events", "connections") as recorder:
        yield recorder


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, dict[int, str]]:
    """Return a server, a client, and the server's addresses by version."""
    server, client = lab.host("server"), lab.host("client")
    return server, client, lab.link(server, client).addresses[server]
