"""What the kernel makes of the programs, and what they leave in their maps."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf import client, compiler, loader, syscall
from droptape.bpf.btf import Btf
from droptape.bpf.compiled import ADDRESS, Cache
from droptape.bpf.compiler import LoaderError
from droptape.bpf.kinds import all_kinds
from droptape.bpf.module import Module
from lab import Host, Lab
from lab.process import Child

SLOT = np.dtype([("netns", "u4"), ("port", "u2"), ("slot", "u2")])
QUICK = 30_000
"""Instructions; a verifier follows about a million a second."""
FAR = 250_000
"""Of the million that a verifier follows at most: those of 6.1 and older forget less than others,
and another build of a kernel may need more."""


def _verified(*, record_benign: bool, max_rate: int) -> dict[str, int]:
    """Return how many instructions the verifier followed in each program that makes events."""
    loaded = client.load(list(all_kinds()), record_benign=record_benign, max_rate=max_rate)
    try:
        programs = {
            name: syscall.program_info(fd).verified
            for name, fd in loaded.fds.items()
            if name.startswith("runs:")
        }
    finally:
        loaded.close()
    assert {"runs:drops/drops_kfree_skb", "runs:retransmits/retransmits_skb"} <= set(programs)
    # On kernels that do not tell, nothing is checked.
    assert all(programs.values()) or not any(programs.values())
    return programs


@pytest.mark.parametrize(("record_benign", "max_rate"), [(True, 10_000), (False, 0)])
def test_no_verifier_is_near_its_limit(record_benign: bool, max_rate: int) -> None:
    found = _verified(record_benign=record_benign, max_rate=max_rate)
    assert {name: n for name, n in found.items() if n > FAR} == {}


def test_loops_over_listeners_do_not_hold_up_a_start() -> None:
    kinds = [kind for name, kind in all_kinds().items() if name != "connections"]
    module = loader.prepare(kinds, record_benign=False).module
    state, walk = "track_state", "bpf_iter__task_file"
    try:
        module.load(walk, syscall.TRACING, syscall.ITERATOR, "bpf_iter_task_file")
        fds = {name: module.programs[name] for name in (state, walk)}
        found = {name: syscall.program_info(fd).verified for name, fd in fds.items()}
    finally:
        for fd in {*module.programs.values(), *module._maps.values()}:
            os.close(fd)
    assert {name: n for name, n in found.items() if n > QUICK} == {}


def test_a_source_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
    BPF_HASH(seen, __u64, __u64, 7);
    BPF_ARRAY(other, __u32, 3);
    int program(void *ctx) { __u64 key = 5, *value = seen.lookup(&key); return value ? *value : 0; }
    """
    cache = Cache(tmp_path / "cache", owner=os.geteuid())
    first = compiler.compiled([source], 0, cache)
    assert first.maps == {
        "seen": syscall.MapShape(1, 8, 8, 7, 0),
        "other": syscall.MapShape(2, 4, 4, 3, 0),
    }
    monkeypatch.setattr(compiler, "_compile", None)
    assert compiler.compiled([source], 0, cache) == first
    with pytest.raises(TypeError):
        compiler.compiled([source + " "], 0, cache)
    with pytest.raises(TypeError):
        compiler.compiled([source], 1, cache)


def test_sources_that_are_compiled_at_the_same_time_share_their_maps(tmp_path: Path) -> None:
    head = "BPF_ARRAY(first, __u64, 1); BPF_ARRAY(both, __u64, 1);"
    write = """
    int write(void *ctx)
    {
        __u32 at = 0;
        __u64 *value = both.lookup(&at);
        if (value)
            *value += 7;
        return 0;
    }
    """
    cache = Cache(tmp_path / "cache", owner=os.geteuid())
    sources = [head + write, "BPF_ARRAY(both, __u64, 1);" + write.replace("write", "again")]
    module = Module(compiler.compiled(sources, 0, cache), [], Btf.load())
    for program in "write", "again":
        syscall.run_on_cpu(module.load(program, syscall.RAW_TRACEPOINT), 0)
    told = np.zeros(1, "u8")
    syscall.map_lookup(module.map_fd("both"), np.zeros(1, "u4"), told)
    assert int(told[0]) == 14


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_source_that_cannot_be_compiled_is_told(tmp_path: Path, wrong: int) -> None:
    sources = ["int one(void *ctx) { return 0; }", "int two(void *ctx) { return 0; }"]
    sources[wrong] = "int one("
    cache = Cache(tmp_path / "cache", owner=os.geteuid())
    with pytest.raises(LoaderError, match="bcc cannot compile the programs: expected "):
        compiler.compiled(sources, 0, cache)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_loader_ends_with_its_recorder() -> None:
    loader = client.Loader(["drops"])
    try:
        loader._process.channel.close()
        assert loader._process.child.wait(60) == 0
    finally:
        loader.close()


def test_addresses_are_those_of_this_boot(tmp_path: Path) -> None:
    header = Path(compiler.__file__).parent / "core" / "read.h"
    source = f"""
    #define CAN_CAST 0
    #define BOOT_ADDRESS {ADDRESS:#x}ULL
    {header.read_text()}
    #define SYMBOL_PLACE_one 1
    #define SYMBOL_BYTES_one 0x1000
    BPF_ARRAY(given, __u64, 2);
    BPF_ARRAY(told, __u64, 2);
    int program(struct bpf_raw_tracepoint_args *ctx)
    {{
        __u32 at;
        for (at = 0; at < 2; at++) {{
            __u32 index = at;
            __u64 *address = given.lookup(&index), *inside = told.lookup(&index);
            if (address && inside)
                *inside = 1 + IN_FUNCTION(*address, one);
        }}
        return 0;
    }}
    """
    found = compiler.compiled([source], 0, Cache(tmp_path / "cache", owner=os.geteuid()))
    before, inside = 0xFFFFFFFF81FFFFFF, 0xFFFFFFFF82000FFF
    for start, answers in (before + 1, [1, 2]), (before, [2, 1]), (inside + 1, [1, 1]):
        module = Module(found, [7, start], Btf.load())
        keys = np.arange(2, dtype="u4").reshape(2, 1)
        for key, address in zip(keys, (before, inside), strict=True):
            syscall.map_update(module.map_fd("given"), key, np.array([address], "u8"))
        syscall.run_on_cpu(module.load("program", syscall.RAW_TRACEPOINT), 0)
        told = [np.zeros(1, "u8") for _ in keys]
        for key, answer in zip(keys, told, strict=True):
            syscall.map_lookup(module.map_fd("told"), key, answer)
        assert [int(answer[0]) for answer in told] == answers


def test_why_the_kernel_refuses_a_program_is_told() -> None:
    # r0 = *(u64 *)(r1 + 0), where r1 is 0; exit
    code = bytes.fromhex("b701000000000000 7910000000000000 9500000000000000")
    with pytest.raises(syscall.RefusedError, match="R1 invalid mem access"):
        syscall.program_load("wrong", code, syscall.RAW_TRACEPOINT)


def _share_a_port(child: Child, close: tuple[int, ...]) -> None:
    """Let several sockets listen on one port, and close them in the order told, after `go`."""
    listeners = []
    port = 0
    for _ in close:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        port = listener.getsockname()[1]
        listeners.append(listener)
    child.ready()
    child.receive()
    for number in close:
        listeners[number].close()


def _slots(loaded: client.Loaded, host: Host) -> list[int]:
    fd = loaded.fds["map:listeners"]
    shape = syscall.map_shape(fd)
    value = np.dtype((np.void, shape.value_bytes))
    keys, _ = syscall.map_items(fd, SLOT, value, shape.entries)
    return sorted(keys["slot"][keys["netns"] == host.inum].tolist())


@pytest.mark.parametrize("close", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_closed_listeners_leave_no_trace(close: tuple[int, ...]) -> None:
    loaded = client.load(["listen"])
    try:
        with Lab() as lab:
            host = lab.host("server")
            task = host.spawn(_share_a_port, close)
            task.ready()
            before = _slots(loaded, host)
            task.send("go")
            task.join()
            after = _slots(loaded, host)
    finally:
        loaded.close()
    assert (before, after) == ([0, 1, 2], [])
