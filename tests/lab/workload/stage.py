"""The mixed workload: four hosts, loss, and processes that own sockets in every usual way.

    with Lab() as lab:
        workload = Workload(lab, folder)
        with Recorder(…):          # some processes are older than the recorder
            workload.run(seconds=15)
        truth = workload.truth()

Clients on the hosts `a` and `c` talk through the router `r` to servers on `b`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.net import Host, Lab
from lab.packet import Endpoint
from lab.process import Child, Task
from lab.workload import clients, datagrams
from lab.workload.clients import Targets
from lab.workload.servers import Server, all_servers
from lab.workload.truth import Log, Truth

_LOSS = {"r": ("forward", 3), "b": ("input", 1), "a": ("output", 1)}
_CLOSED_PORTS = 2


class Workload:
    """Servers and old connections run as soon as it is made; `run` adds the rest.

    Attributes:
        ports: Each server's port, by role.
        container_id: The made-up container that some clients of host `c` are in; "" without
            cgroup version 2.
        spaces: The namespace of each address.
        counts: What each client did, for a look at whether enough happened.
        problems: What this machine does not let happen.
    """

    def __init__(self, lab: Lab, folder: Path, servers: dict[str, Server] | None = None) -> None:
        self._path = folder / "truth.jsonl"
        self._log = Log(self._path)
        self.hosts = {name: lab.host(name) for name in "arbc"}
        self._address, self.spaces = _connect_hosts(lab, self.hosts)
        self.counts: dict[str, int] = {}
        self.container_id = ""
        self.ports: dict[str, int] = {}
        servers = all_servers() if servers is None else servers
        self.problems = [] if "io_uring" in servers else ["no io_uring"]
        self._spawn_servers(servers)
        elder = self.hosts["b"].spawn_as("elder", servers.get("threads", all_servers()["threads"]),
                                         self._log, 6)  # fmt: skip
        port = elder.ready()
        self._elder = self.hosts["c"].spawn_as(
            "elder-client", clients.keep_asking, self._log,
            [("elder", Endpoint(self._address[v], port)) for v in (4, 6)],
        )  # fmt: skip
        self._elder.ready()
        for host, (hook, share) in _LOSS.items():
            self.hosts[host].nft(_lossy(hook, share))

    def _spawn_servers(self, servers: dict[str, Server]) -> None:
        for role, server in servers.items():
            task = self.hosts["b"].spawn_as(role[:15], server, self._log, 6)
            self.ports[role] = task.ready()

    @property
    def targets(self) -> list[tuple[str, Endpoint]]:
        """Every server, over IPv4 and IPv6."""
        return [
            (role, Endpoint(self._address[version], port))
            for role, port in self.ports.items()
            for version in (4, 6)
        ]

    def run(self, seconds: float) -> None:
        """Let all clients work for so long, then let the kernel finish what they left."""
        a, c = self.hosts["a"], self.hosts["c"]
        tasks: dict[str, Task[int]] = {}

        def start(
            host: Host, comm: str, function: Callable[..., int], *args: Any, **kw: Any
        ) -> None:
            tasks[comm] = host.spawn_as(comm, function, self._log, *args, **kw)

        targets = self.targets
        self._elder.send(seconds)
        for number in range(9):
            start((a, c)[number % 2], f"client-{number}", clients.browse, targets, number, seconds)
        passing = [t for t in targets if t[0] in ("threads", "asyncio")]
        start(a, "fork-passing", clients.fork_passing, passing, seconds, keeps=False)
        start(c, "fork-keeping", clients.fork_passing, passing, seconds, keeps=True)
        start(a, "pid-reuse", clients.reuse_pids, passing, seconds)
        start(c, "impatient", clients.give_up_early, passing, seconds)
        with self._cgroup() as group:
            start(c, "in-container", _in_group, group, targets, 99, seconds)
            closed = [
                Endpoint(self._address[v], 9 + n) for v in (4, 6) for n in range(_CLOSED_PORTS)
            ]
            start(a, "knocking", clients.knock_in_vain, closed, seconds)
            self._send_datagrams(start, seconds)
            for comm, task in tasks.items():
                self.counts[comm] = task.join(seconds + 40)
        time.sleep(1.5)

    def _send_datagrams(self, start: Callable[..., None], seconds: float) -> None:
        b = self.hosts["b"]
        ports = [
            b.spawn_as("udp-reader", datagrams.reader, self._log).ready(),
            b.spawn_as("udp-never", datagrams.never_reads, self._log).ready(),
            b.spawn_as("udp-brief", datagrams.comes_and_goes, self._log).ready(),
            7,
        ]
        for version, host in ((4, "a"), (6, "c")):
            where = [Endpoint(self._address[version], port) for port in ports]
            start(self.hosts[host], f"udp-sender-{version}", datagrams.sender, where, seconds)

    @contextlib.contextmanager
    def _cgroup(self) -> Iterator[Path | None]:
        """Make a control group that is called like a container's."""
        mount = cgroup2_mount()
        if mount is None:
            self.problems.append("no cgroup version 2")
            yield None
            return
        container = secrets.token_hex(32)
        group = mount / f"docker-{container}.scope"
        group.mkdir()
        self.container_id = container
        try:
            yield group
        finally:
            _remove(group)

    def truth(self) -> Truth:
        """Return what the processes said."""
        return Truth(self._path, {host.inum for host in self.hosts.values()})


def cgroup2_mount() -> Path | None:
    """Return where cgroup version 2 is mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return Path(fields[1])
    return None


def _in_group(
    child: Child, log: Log, group: Path | None, targets: Targets, seed: int, seconds: float
) -> int:
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    return clients.browse(child, log, targets, seed, seconds)


def _remove(group: Path) -> None:
    for _ in range(50):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def _connect_hosts(lab: Lab, hosts: dict[str, Host]) -> tuple[dict[int, str], dict[str, int]]:
    """Join clients and servers through the router.

    Returns:
        The server's address by version, and the namespace of each address.
    """
    router = hosts["r"]
    router.forward()
    address: dict[int, str] = {}
    spaces: dict[str, int] = {}
    for number, name in enumerate("abc", start=1):
        link = lab.link(
            router, hosts[name], v4=f"10.77.{number}.0/30", v6=f"fd77:{number}::/64", offload=False
        )
        # A router asks for neighbours from its link-local address (ndisc_send_ns()).
        router.run(["ip", "address", "add", "fe80::1/64", "dev", link.device(router), "nodad"])
        for version in (4, 6):
            hosts[name].route("default", via=link.address(router, version))
            spaces[link.address(hosts[name], version)] = hosts[name].inum
            if name == "b":
                address[version] = link.address(hosts[name], version)
    return address, spaces


def _lossy(hook: str, share: int) -> str:
    return (
        "table inet lossy {\n  chain lossy {\n"
        f"    type filter hook {hook} priority 0\n"
        f"    meta l4proto {{ tcp, udp }} numgen random mod 100 < {share} counter drop\n  }}\n}}\n"
    )
