"""Servers, one for each way in which a connection gets to the process that serves it.

Each runs until it is killed, and logs whose a socket is as soon as it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

from lab.process import Child
from lab.workload import uring
from lab.workload.process import fork, reap_by_itself
from lab.workload.talk import HEADER_BYTES, answer_one, header_of, listening, serve
from lab.workload.truth import Log

Server = Callable[[Child, Log, int], None]


def _accept(listener: socket.socket, log: Log, role: str) -> socket.socket:
    connection = listener.accept()[0]
    log.owns(connection, role)
    return connection


def simple(child: Child, log: Log, version: int) -> None:
    """One process accepts, serves and closes, one after the other."""
    listener = listening(version)
    log.owns(listener, "simple")
    child.ready(listener.getsockname()[1])
    while True:
        serve(_accept(listener, log, "simple"))


def _worker(listener: socket.socket, log: Log, role: str) -> None:
    log.owns(listener, role)
    while True:
        serve(_accept(listener, log, role))


def prefork(child: Child, log: Log, version: int) -> None:
    """Three children accept on the listener of their parent, which only waits."""
    listener = listening(version)
    log.owns(listener, "prefork")
    for number in range(3):
        fork(f"prefork-{number}", _worker, listener, log, "prefork")
    child.ready(listener.getsockname()[1])
    child.stopping(None)


def reuseport(child: Child, log: Log, version: int) -> None:
    """Three processes share a port, each with a listener of its own (SO_REUSEPORT)."""
    with listening(version, reuse_port=True) as first:
        port = first.getsockname()[1]

        def work() -> None:
            listener = listening(version, reuse_port=True, port=port)
            first.close()
            _worker(listener, log, "reuseport")

        for number in range(3):
            fork(f"reuseport-{number}", work)
        time.sleep(0.3)
    child.ready(port)
    child.stopping(None)


def handover(child: Child, log: Log, version: int) -> None:
    """One process accepts and sends the connection to another (SCM_RIGHTS)."""
    listener = listening(version)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def work() -> None:
        ours.close()
        listener.close()
        while True:
            message, descriptors, _, _ = socket.recv_fds(theirs, 64, 1)
            connection = socket.socket(fileno=descriptors[0])
            log.owns(connection, "handover", since=int(message))
            serve(connection)

    fork("handover-work", work)
    theirs.close()
    log.owns(listener, "handover")
    child.ready(listener.getsockname()[1])
    while True:
        since = time.monotonic_ns()
        with _accept(listener, log, "handover") as connection:
            socket.send_fds(ours, [str(since).encode()], [connection.fileno()])


def inetd(child: Child, log: Log, version: int) -> None:
    """A child for each connection."""
    reap_by_itself()
    listener = listening(version)
    log.owns(listener, "inetd")
    child.ready(listener.getsockname()[1])
    number = 0
    while True:
        since = time.monotonic_ns()
        with _accept(listener, log, "inetd") as connection:
            number += 1

            def work(connection: socket.socket = connection, since: int = since) -> None:
                log.owns(connection, "inetd", since=since)
                listener.close()
                serve(connection)

            fork(f"inetd-{number}", work)


def write_and_exit(child: Child, log: Log, version: int) -> None:
    """A child answers once and ends: what is lost is sent again when it is long gone."""
    reap_by_itself()
    listener = listening(version)
    log.owns(listener, "write-and-exit")
    child.ready(listener.getsockname()[1])
    number = 0
    while True:
        since = time.monotonic_ns()
        with _accept(listener, log, "write-and-exit") as connection:
            number += 1

            def work(connection: socket.socket = connection, since: int = since) -> None:
                log.owns(connection, "write-and-exit", since=since)
                listener.close()
                connection.settimeout(5)
                answer_one(connection)

            fork(f"exits-{number}", work)


def threads(child: Child, log: Log, version: int) -> None:
    """One thread accepts, six others serve."""
    listener = listening(version)
    accepted: queue.Queue[socket.socket] = queue.Queue()

    def work() -> None:
        while True:
            serve(accepted.get())

    for _ in range(6):
        threading.Thread(target=work, daemon=True).start()
    log.owns(listener, "threads")
    child.ready(listener.getsockname()[1])
    while True:
        accepted.put(_accept(listener, log, "threads"))


def event_loop(child: Child, log: Log, version: int) -> None:
    """Asyncio: one thread, non-blocking sockets and epoll."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: socket.socket = writer.get_extra_info("socket")
        with contextlib.suppress(OSError, EOFError):
            log.owns(held, "asyncio")
            while sizes := header_of(await reader.readexactly(HEADER_BYTES)):
                await reader.readexactly(sizes[0])
                writer.write(bytes(sizes[1]))
                await writer.drain()
        writer.close()

    async def run() -> None:
        listener = listening(version)
        log.owns(listener, "asyncio")
        server = await asyncio.start_server(session, sock=listener)
        child.ready(listener.getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def io_uring(child: Child, log: Log, version: int) -> None:
    """Accepts, reads and writes only through an io_uring."""
    listener = listening(version)
    log.owns(listener, "io_uring")
    with uring.Ring() as ring:
        child.ready(listener.getsockname()[1])
        while True:
            connection = ring.accept(listener)
            log.owns(connection, "io_uring")
            with connection, contextlib.suppress(OSError):
                _answer_by_ring(ring, connection)


def _answer_by_ring(ring: uring.Ring, connection: socket.socket) -> None:
    pending = b""
    while True:
        while (sizes := header_of(pending)) is None or len(pending) < HEADER_BYTES + sizes[0]:
            part = ring.receive(connection, 65536)
            if not part:
                return
            pending += part
        pending = pending[HEADER_BYTES + sizes[0] :]
        ring.send_all(connection, bytes(sizes[1]))


def all_servers() -> dict[str, Server]:
    """Return the servers that run here, by role."""
    found: dict[str, Server] = {
        "simple": simple,
        "prefork": prefork,
        "reuseport": reuseport,
        "handover": handover,
        "inetd": inetd,
        "write-and-exit": write_and_exit,
        "threads": threads,
        "asyncio": event_loop,
    }
    if not uring.missing():
        found["io_uring"] = io_uring
    return found
