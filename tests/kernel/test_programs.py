"""What the kernel makes of the programs, and what they leave in their maps."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from droptape.bpf import client, syscall
from droptape.bpf.kinds import all_kinds
from lab import Host, Lab
from lab.process import Child

MOST = 120_000
"""Instructions that the verifier of a 6.18 may follow. Those of 6.1 and older forget less: what
takes 120,000 here they still took, what took 230,000 they refused (their limit is a million)."""
SLOT = np.dtype([("netns", "u4"), ("port", "u2"), ("slot", "u2")])


def test_older_verifiers_can_follow() -> None:
    loaded = client.load(list(all_kinds()), record_benign=True, max_rate=10_000)
    try:
        programs = {
            name: syscall.program_info(fd).verified
            for name, fd in loaded.fds.items()
            if name.startswith("runs:")
        }
    finally:
        loaded.close()
    assert {"runs:drops/drops_kfree_skb", "runs:retransmits/retransmits_skb"} <= set(programs)
    assert {name: n for name, n in programs.items() if n > MOST} == {}
    # On kernels that do not tell, nothing is checked.
    assert all(programs.values()) or not any(programs.values())


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
