"""Hosts, links and routes made of network namespaces.

    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        link = lab.link(client, server, v4="10.77.1.0/30", v6="fd77:1::/64")
        server.run(["ip", "-br", "address"])
        server.call(do_something, link.address(server))

A namespace lives as long as the keeper process in it. Leaving the `with` block,
by an exception or a signal too, ends every process and so every namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from lab.counters import Counters, moved, read_counters
from lab.process import Child, LabError, Task, new_namespace, start, start_in

_P = ParamSpec("_P")
_R = TypeVar("_R")

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def run(command: Sequence[str], *, stdin: str | None = None, timeout: float = 30) -> str:
    """Run a command; return its output, or raise LabError with what it complained of."""
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    if result.returncode != 0:
        complaint = result.stderr.strip() or result.stdout.strip()
        raise LabError(f"{' '.join(command)}: exit code {result.returncode}: {complaint}")
    return result.stdout


def _keep(child: Child) -> None:
    new_namespace()
    child.ready()
    child.stopping(None)


def _sysctl_path(name: str) -> Path:
    """Return the file of a sysctl; it shows the namespace of the task that opens it."""
    if not name.startswith("net."):
        raise LabError(f"{name} does not belong to a network namespace")
    return Path("/proc/sys", *name.split("."))


class Host:
    """One network namespace with loopback up.

    Attributes:
        name: As given to `Lab.host`.
        netns: The namespace's name, `dt-<random>-<name>`. Known to `ip netns`
            only when the host was made with `named=True`.
        inum: The namespace's inode number, as in `readlink /proc/PID/ns/net`.
        keeper: Id of the process that holds the namespace.
        since_ns: CLOCK_MONOTONIC when it was made: what is older under the same inode number
            belongs to a namespace that is gone.
    """

    def __init__(self, name: str, netns: str) -> None:
        self.name = name
        self.netns = netns
        self._tasks: list[Task[Any]] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._keeper = start(_keep)
        self.keeper = self._keeper.pid
        self.since_ns = time.monotonic_ns()
        try:
            self._keeper.ready()
            self.inum = Path(f"/proc/{self.keeper}/ns/net").stat().st_ino
            self.run(["ip", "link", "set", "lo", "up"])
        except BaseException:
            self._keeper.kill()
            raise

    def __repr__(self) -> str:
        return f"<Host {self.name} netns={self.inum}>"

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.keeper}/ns/net", "--", *command]

    def run(self, command: Sequence[str], *, stdin: str | None = None, timeout: float = 30) -> str:
        """Run a command in this namespace; return its output or raise LabError."""
        return run(self._inside(command), stdin=stdin, timeout=timeout)

    def popen(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command in this namespace; it ends with the lab at the latest.

        Its process id is that of the command itself.
        """
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *self._inside(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a Python function in a child in this namespace; return or raise as it does."""

        def in_child(_child: Child) -> _R:
            return function(*args, **kwargs)

        task = start_in(self.keeper, None, in_child)
        try:
            return task.join()
        finally:
            task.kill()

    def spawn(
        self,
        function: Callable[Concatenate[Child, _P], _R],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Task[_R]:
        """Run `function(child, ...)` in the background in this namespace."""
        return self.spawn_as(None, function, *args, **kwargs)

    def spawn_as(
        self,
        comm: str | None,
        function: Callable[Concatenate[Child, _P], _R],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Task[_R]:
        """Like `spawn`, under the process name `comm` (at most 15 characters)."""
        task = start_in(self.keeper, comm, function, *args, **kwargs)
        self._tasks.append(task)
        return task

    def sysctl(self, name: str, value: int | str) -> None:
        """Set a sysctl of this namespace, as `sysctl("net.ipv4.tcp_syncookies", 0)`."""
        self.call(_sysctl_path(name).write_text, str(value))

    def read_sysctl(self, name: str) -> str:
        """Return the value of a sysctl of this namespace."""
        return self.call(_sysctl_path(name).read_text).strip()

    def counters(self) -> Counters:
        """Return this namespace's counters now, as {"TcpExt.ListenDrops": 12, …}."""
        return read_counters(self.keeper)

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counters]:
        """Give a dict that, after the block, says which counters moved in it and how far."""
        before = self.counters()
        changes: Counters = {}
        yield changes
        changes.update(moved(before, self.counters()))

    def nft(self, rules: str) -> None:
        """Load nftables rules (the `nft -f` language) into this namespace."""
        self.run(["nft", "-f", "-"], stdin=rules)

    def route(self, destination: str, *, via: str) -> None:
        """Add a route; `destination` is a prefix, or "default" for that of `via`'s version."""
        version = ipaddress.ip_address(via).version
        self.run(["ip", f"-{version}", "route", "add", destination, "via", via])

    def forward(self) -> None:
        """Make this host a router for IPv4 and IPv6."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    def close(self) -> None:
        """End everything that runs here, and with it the namespace."""
        for task in self._tasks:
            task.kill()
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._keeper.kill()


@dataclass(frozen=True)
class Link:
    """A veth pair between two hosts.

    Attributes:
        a: One host.
        b: The other.
        devices: Each host's interface name.
        addresses: Each host's address by IP version.
    """

    a: Host
    b: Host
    devices: dict[Host, str]
    addresses: dict[Host, dict[int, str]] = field(repr=False)

    def address(self, host: Host, version: int = 4) -> str:
        """Return the address of `host` on this link."""
        return self.addresses[host][version]

    def device(self, host: Host) -> str:
        """Return the name of the interface of `host` on this link."""
        return self.devices[host]


class Lab:
    """A set of hosts that vanish together. Use it as a context manager, from one thread."""

    def __init__(self) -> None:
        self.prefix = f"dt-{secrets.token_hex(3)}"
        self.hosts: dict[str, Host] = {}
        self._named: list[str] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Lab:
        # A signal that would end the process at once has to unwind the stack instead.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, _exit_by_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def host(self, name: str, *, named: bool = False) -> Host:
        """Make a host.

        `named` also shows it in `ip netns` (/run/netns). That name, unlike all
        else here, stays behind when this process is ended by SIGKILL.
        """
        if name in self.hosts:
            raise LabError(f"there is already a host named {name}")
        host = self.hosts[name] = Host(name, f"{self.prefix}-{name}")
        if named:
            run(["ip", "netns", "attach", host.netns, str(host.keeper)])
            self._named.append(host.netns)
        return host

    def link(
        self,
        a: Host,
        b: Host,
        *,
        v4: str | None = "10.77.1.0/30",
        v6: str | None = "fd77:1::/64",
        offload: bool = True,
    ) -> Link:
        """Join two hosts by a veth pair; `a` gets the first address of each network.

        Without `offload` a TCP segment on the wire is one packet, as on a real
        link; with it veth carries up to 64 KB at once.
        """
        devices = {a: f"to-{b.name}"[:15], b: f"to-{a.name}"[:15]}
        run(
            f"ip link add {devices[a]} netns {a.keeper} type veth"
            f" peer name {devices[b]} netns {b.keeper}".split()
        )
        addresses: dict[Host, dict[int, str]] = {a: {}, b: {}}
        for position, (host, device) in enumerate(devices.items(), start=1):
            batch = [f"link set {device} addrgenmode none"]
            if not offload:
                batch.append(f"link set {device} gso_max_segs 1")
            batch.append(f"link set {device} up")
            for prefix in (v4, v6):
                if prefix is not None:
                    network = ipaddress.ip_network(prefix)
                    address = str(network[position])
                    addresses[host][network.version] = address
                    nodad = " nodad" if network.version == 6 else ""
                    batch.append(f"address add {address}/{network.prefixlen} dev {device}{nodad}")
            host.run(["ip", "-batch", "-"], stdin="\n".join(batch) + "\n")
        return Link(a, b, devices, addresses)

    def close(self) -> None:
        """End every process and remove every namespace; called on leaving the block."""
        for netns in self._named:
            with contextlib.suppress(LabError):
                run(["ip", "netns", "delete", netns])
        self._named.clear()
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()


def _exit_by_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
