"""What `make_recordings.py` needs beside the troubles of tests/lab: a shop under load."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import Host, Lab
from lab.process import Child

PORT = 8080
_CLONE_NEWUTS = 0x04000000  # include/uapi/linux/sched.h


def take_name(name: str) -> None:
    """Give this process and its children a host name of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUTS) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a UTS namespace")
    socket.sethostname(name)


def _unified() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    return None


class Units:
    """Control groups as a service manager makes them; what is started in one belongs to it."""

    def __init__(self) -> None:
        self._root = _unified()
        self._made: list[Path] = []

    def __enter__(self) -> Units:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()

    @contextlib.contextmanager
    def starting(self, unit: str) -> Iterator[None]:
        """Have processes that are started meanwhile belong to `unit`."""
        if self._root is None:
            yield
            return
        for folder in (self._root / "system.slice", self._root / "system.slice" / unit):
            if not folder.exists():
                folder.mkdir()
                self._made.append(folder)
        own = Path("/proc/self/cgroup").read_text().split("0::", 1)[1].split("\n")[0]
        self._move(self._root / "system.slice" / unit)
        try:
            yield
        finally:
            self._move(self._root / own.lstrip("/"))

    @staticmethod
    def _move(folder: Path) -> None:
        (folder / "cgroup.procs").write_text(str(os.getpid()))


@dataclass(frozen=True)
class Shop:
    """A server and its clients, each on a link of its own."""

    server: Host
    clients: dict[str, Host]
    address: str
    address6: str


def open_shop(lab: Lab) -> Shop:
    """Make the hosts: `web`, and the clients `mobile`, `partner` and `office`."""
    lab.prefix = "shop"
    server = lab.host("web", named=True)
    clients: dict[str, Host] = {}
    addresses: dict[int, str] = {}
    for number, name in enumerate(("mobile", "partner", "office"), start=1):
        client = clients[name] = lab.host(name, named=True)
        link = lab.link(
            client, server, v4=f"10.20.{number}.0/30", v6=f"fd20:{number}::/64", offload=False
        )
        addresses = addresses or {version: link.address(server, version) for version in (4, 6)}
        if number > 1:
            client.route("10.20.1.0/30", via=link.address(server))
    return Shop(server, clients, addresses[4], addresses[6])


def serve(child: Child, backlog: int, pause: float) -> int:
    """Answer one request after the other, each after `pause` seconds of work, on `PORT`."""
    answered = 0
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", PORT))
        listener.listen(backlog)
        listener.settimeout(0.05)
        child.ready()
        while not child.stopping():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(0.2)
                connection.recv(100)
                time.sleep(pause)
                connection.sendall(b"HTTP/1.0 204 No Content\r\n\r\n")
                answered += 1
    return answered


@dataclass(frozen=True)
class Bursts:
    """Requests that come together: `size` at once, `count` times, `every` so many seconds."""

    size: int
    count: int
    every: float


def request_in_bursts(_child: Child, address: str, bursts: Bursts) -> int:
    """Ask the server; return how many requests were answered within 5 s."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            with socket.create_connection((address, PORT), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answered.append(connection.recv(100) != b"")
        except OSError:
            answered.append(False)

    threads: list[threading.Thread] = []
    start = time.monotonic()
    for number in range(bursts.count):
        time.sleep(max(0, start + number * bursts.every - time.monotonic()))
        for _ in range(bursts.size):
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
    for thread in threads:
        thread.join()
    return sum(answered)


def load(shop: Shop, units: Units, *, backlog: int, pause: float, sizes: Sequence[int],
         count: int) -> tuple[int, int]:  # fmt: skip
    """Put the shop under load; return how many requests were made, and how many answered.

    Args:
        shop: The hosts.
        units: Where the server's unit is.
        backlog: What the server gives to listen(2).
        pause: Seconds it works on a request.
        sizes: Requests at once, for each client.
        count: Bursts, two in a second.
    """
    with units.starting("auction.service"):
        serving = shop.server.spawn_as("auction-server", serve, backlog, pause)
    serving.ready()
    crowds = [
        host.spawn_as(name, request_in_bursts, shop.address, Bursts(size, count, 0.5))
        for (name, host), size in zip(shop.clients.items(), sizes, strict=True)
    ]
    answered = sum(crowd.join(60) for crowd in crowds)
    serving.stop()
    return sum(sizes) * count, answered
