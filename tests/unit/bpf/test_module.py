"""What is said when the kernel gives no map."""

from __future__ import annotations

import errno
import os
import resource
import sys
from unittest.mock import Mock

import pytest

from droptape.bpf import syscall
from droptape.bpf.compiled import Compiled
from droptape.bpf.compiler import LoaderError, _compile
from droptape.bpf.module import Module


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, limit: int) -> None:
    """Make a module where the kernel refuses maps."""
    monkeypatch.setattr(resource, "setrlimit", Mock(side_effect=ValueError))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    refused = OSError(number, os.strerror(number))
    monkeypatch.setattr(syscall, "map_create", Mock(side_effect=refused))
    Module(Compiled({"totals": syscall.MapShape(1, 4, 8, 1, 0)}, {}), [], Mock())


def test_too_many_open_files_are_for_the_loader_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        refuse(monkeypatch, errno.EMFILE, 65536)


@pytest.mark.parametrize(
    ("number", "limit", "told"),
    [
        (errno.EPERM, 65536, True),
        (errno.EPERM, resource.RLIM_INFINITY, False),
        (errno.ENOMEM, 65536, False),
    ],
)
def test_locked_memory_is_named_where_it_may_be_the_reason(
    monkeypatch: pytest.MonkeyPatch, number: int, limit: int, told: bool
) -> None:
    with pytest.raises(LoaderError, match="refuses the map totals") as caught:
        refuse(monkeypatch, number, limit)
    assert ("locked memory" in str(caught.value)) == told


def test_the_memory_of_a_processor_that_is_offline_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_on_cpu(program: str, cpu: int) -> None:
        if cpu == 1:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))

    names = ("settings", "cpu_base", "anchor")
    shapes = {name: syscall.MapShape(2, 4, 8, 4, 0) for name in names}
    monkeypatch.setattr(syscall, "map_create", lambda name, shape: names.index(name))
    module = Module(Compiled(shapes, {}), [], Mock())
    module.fds["iter:bpf_map"] = 7
    monkeypatch.setattr(module, "iterator", lambda target: "")
    monkeypatch.setattr(module, "load", lambda function, kind: function)
    for name in ("map_id", "map_update", "iterate"):
        monkeypatch.setattr(syscall, name, Mock(return_value=0))
    monkeypatch.setattr(syscall, "map_lookup", lambda fd, key, value: value.fill(4096))
    monkeypatch.setattr(syscall, "run_on_cpu", run_on_cpu)
    ran = Mock()
    monkeypatch.setattr(syscall, "run", ran)
    assert module.find_cpu_bases(3) == ""
    ran.assert_called_once_with("percpu_offset", 1)


@pytest.mark.parametrize(("number", "told"), [(errno.EPERM, True), (errno.ENOMEM, False)])
def test_locked_memory_is_named_where_bcc_says_nothing(
    monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    class Broken:
        def __init__(self, **_: object) -> None:
            raise RuntimeError("Failed to compile BPF module <text>")

    monkeypatch.setitem(sys.modules, "bcc", Mock(BPF=Broken))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    refused = OSError(number, os.strerror(number))
    monkeypatch.setattr(syscall, "map_create", Mock(side_effect=refused))
    with pytest.raises(LoaderError, match="bcc cannot compile the programs: ") as caught:
        _compile([""], 0)
    assert ("locked memory" in str(caught.value)) == told
    assert ("Failed to compile" in str(caught.value)) != told
