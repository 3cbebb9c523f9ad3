"""Tests that need a real kernel: root, BTF and bcc.

Where one of these is missing the tests are skipped with the reason, unless
DROPTAPE_REQUIRE_KERNEL=1 says that a skip would hide a failure.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from lab import Host, Lab
from lab.recorder import Recorder
from lab.unseen import Unseen

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
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    impossible = []
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            modules = (str(mark.args[0]) for mark in item.iter_markers("module"))
            impossible += [item] * (not all(map(_has_module, modules)))
    if impossible:  # `make kernels` runs them
        config.hook.pytest_deselected(items=impossible)
        items[:] = [item for item in items if item not in impossible]


@cache
def _has_module(name: str) -> bool:
    """Say whether the kernel has it, or can load it when it is asked for what is in it."""
    files = Path("/lib/modules", os.uname().release).rglob(f"{name}.ko*")
    return Path("/sys/module", name).exists() or any(files)


@pytest.hookimpl
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test again when it failed while the kernel hid events from BPF (lab/unseen.py)."""
    if _HERE not in item.path.parents or not isinstance(item, pytest.Function):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(3)):
        with Unseen() as unseen:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            hidden = unseen.events
        if not left or not hidden or not any(report.failed for report in reports):
            break
        print(f"\n{item.nodeid}: run again; BPF was not shown {len(hidden)} events: {hidden[0]}")
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


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
