"""Clients: those that ask all servers in turn, and some that do unusual things to sockets."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Sequence

from lab.packet import Endpoint
from lab.process import Child
from lab.workload.process import fork, fork_as
from lab.workload.talk import bound, exchange
from lab.workload.truth import Log

Targets = Sequence[tuple[str, Endpoint]]
"""Roles of servers and where they listen, once for each IP version."""


def connect(log: Log, server: Endpoint, role: str) -> socket.socket:
    """Connect and say so; the port is chosen before, so that a failure is known too."""
    connection = bound(server.address)
    since = time.monotonic_ns()
    # The address is the one the route will choose.
    with socket.socket(connection.family, socket.SOCK_DGRAM) as probe:
        probe.connect(server)
        local = probe.getsockname()[0]
    log.write("TCP", (local, connection.getsockname()[1]), server, role, since)
    try:
        connection.connect(server)
    except OSError:
        connection.close()
        raise
    return connection


def browse(child: Child, log: Log, targets: Targets, seed: int, seconds: float) -> int:
    """Ask random servers; return how many answers came. Sessions are short, and some are long."""
    chance, answers = random.Random(seed), 0
    child.ready()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        role, server = chance.choice(targets)
        rounds = 1 if role == "write-and-exit" else chance.choice((1, 1, 2, 8))
        with contextlib.suppress(OSError), connect(log, server, f"client of {role}") as connection:
            for _ in range(rounds):
                ask, answer = chance.choice(((200, 150_000), (60_000, 500), (2_000, 30_000)))
                answers += exchange(connection, ask, answer)
    return answers


def keep_asking(child: Child, log: Log, targets: Targets) -> int:
    """Hold a connection to each target from before the recorder starts; ask when told how long."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(log, where, "elder")) for _, where in targets]
        child.ready()
        end, answers = child.receive() + time.monotonic(), 0
        while time.monotonic() < end:
            for connection in held:
                with contextlib.suppress(OSError):
                    answers += exchange(connection, 20_000, 20_000)
        return answers


def fork_passing(child: Child, log: Log, targets: Targets, seconds: float, *, keeps: bool) -> int:
    """Connect, ask once, and let a forked child go on.

    Args:
        child: The connection with the test.
        log: Where to say whose a socket is.
        targets: Whom to ask.
        seconds: For how long.
        keeps: Whether the parent leaves its own copy open meanwhile.
    """
    role = "fork-keeping client" if keeps else "fork-passing client"
    child.ready()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        with contextlib.suppress(OSError):
            connection = connect(log, targets[number % len(targets)][1], role)
            with connection:
                exchange(connection, 500, 500)
                since = time.monotonic_ns()

                def go_on(held: socket.socket = connection, since: int = since) -> None:
                    log.owns(held, role, since=since)
                    for _ in range(8):
                        exchange(held, 30_000, 60_000)

                pid = fork(f"passed-{number}", go_on)
                if not keeps:
                    connection.close()
                os.waitpid(pid, 0)
    return number


def reuse_pids(child: Child, log: Log, targets: Targets, seconds: float) -> int:
    """Let processes end with data under way, and start others under their ids; return how many.

    The kernel goes on sending for the one that is gone, while the other has sockets of its own.
    """
    child.ready()
    end, number, reused = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        number += 1
        server = targets[number % len(targets)][1]

        def old(server: Endpoint = server) -> None:
            connection = connect(log, server, "pid reuse, old")
            connection.sendall(b"\0" * 4 + b"\0" * 4 + bytes(60_000))
            os._exit(0)

        def new(server: Endpoint = server) -> None:
            with connect(log, server, "pid reuse, new") as connection:
                for _ in range(4):
                    exchange(connection, 30_000, 30_000)

        pid = fork(f"old-{number}", old)
        os.waitpid(pid, 0)
        if fork_as(pid, f"new-{number}", new):
            reused += 1
            os.waitpid(pid, 0)
        time.sleep(0.05)
    return reused


def knock_in_vain(child: Child, log: Log, closed: Sequence[Endpoint], seconds: float) -> int:
    """Connect to ports where nobody listens; return how often."""
    child.ready()
    end, attempts = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for server in closed:
            with contextlib.suppress(OSError):
                connect(log, server, "refused client").close()
            attempts += 1
        time.sleep(0.05)
    return attempts


def give_up_early(child: Child, log: Log, targets: Targets, seconds: float) -> int:
    """Close with the answer unread, which resets the connection; return how often."""
    child.ready()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        with contextlib.suppress(OSError):
            connection = connect(log, targets[number % len(targets)][1], "impatient client")
            with connection:
                exchange(connection, 1000, 1000)
                connection.sendall(b"\0\0\0\0\0\3\0\0")
                connection.recv(1)
        time.sleep(0.03)
    return number
