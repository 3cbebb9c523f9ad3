"""Who really used which socket, as the processes themselves say it, with times.

Every process writes a line when a socket becomes its own (`Log`). `Truth` reads
all lines and says who may be called the owner of a flow at an instant:

- A connection belongs to whoever used it last. From the moment when a process
  may have got it until the moment when it surely has, the one before is right
  too: a process that accepts and passes on has used nothing yet.
- Before it was accepted it belongs to any process that has the listener open,
  or to the one that will accept it.
- A packet to a port belongs to those who have that port, when no connection fits.
- Everything else belongs to nobody.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lab.workload import process

Flow = tuple[int, str, str, int, str, int]
"""Namespace, protocol, local address and port, remote address and port."""


class Owner(NamedTuple):
    """A process by id and name: the same id may come again with another name."""

    pid: int
    comm: str


NOBODY = Owner(0, "")
"""Among those who may be named: to name nobody is right too."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A process got a socket between `since` and `sure` (CLOCK_MONOTONIC, ns)."""

    owner: Owner
    since: int
    sure: int
    role: str
    former: str = ""

    def owners(self) -> set[Owner]:
        """The process by its name, and by the one it had before it gave itself another."""
        if not self.role:
            return {NOBODY}
        return {self.owner, Owner(self.owner.pid, self.former or self.owner.comm)}


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:").partition("%")[0]


class Log:
    """What processes write. It may be used across fork: every line is one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def owns(self, held: socket.socket, role: str, *, since: int | None = None) -> None:
        """Say that this process is now the user of a connected, listening or bound socket.

        Args:
            held: The socket.
            role: What the process plays, for the tables.
            since: The earliest moment when it may have got it; by default now.
        """
        now = time.monotonic_ns()
        local = held.getsockname()[:2]
        try:
            remote = held.getpeername()[:2]
        except OSError:
            remote = ("", 0)
        self.write(
            "TCP" if held.type == socket.SOCK_STREAM else "UDP",
            local, remote, role, now if since is None else since,
        )  # fmt: skip

    @contextlib.contextmanager
    def has(self, held: socket.socket, role: str) -> Iterator[None]:
        """Own a bound socket for the length of the block, which closes it."""
        local = held.getsockname()[:2]
        self.owns(held, role)
        try:
            yield
        finally:
            since = time.monotonic_ns()
            held.close()
            self.write("UDP", local, ("", 0), "", since)

    def write(
        self,
        protocol: str,
        local: tuple[str, int],
        remote: tuple[str, int],
        role: str,
        since: int,
    ) -> None:
        """The same where the socket itself cannot tell its addresses."""
        line = {
            "flow": (
                os.stat("/proc/self/ns/net").st_ino,  # noqa: PTH116
                protocol, _plain(local[0]), local[1], _plain(remote[0]), remote[1],
            ),
            "pid": os.getpid(),
            "comm": Path("/proc/self/comm").read_text().rstrip("\n"),
            "since": since,
            "sure": time.monotonic_ns(),
            "role": role,
            "former": process.former_name(),
        }  # fmt: skip
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Truth:
    """All claims of a run."""

    def __init__(self, path: Path, spaces: set[int]) -> None:
        """Read the log at `path`; `spaces` are the namespaces it speaks for."""
        self.spaces = spaces
        self._claims: dict[Flow, list[Claim]] = defaultdict(list)
        self._ports: dict[tuple[int, str, int], list[Claim]] = defaultdict(list)
        with path.open() as lines:
            for line in map(json.loads, lines):
                owner = Owner(line["pid"], line["comm"])
                claim = Claim(owner, line["since"], line["sure"], line["role"], line["former"])
                netns, protocol, local, lport, remote, rport = line["flow"]
                if rport:
                    self._claims[netns, protocol, local, lport, remote, rport].append(claim)
                else:
                    self._ports[netns, protocol, lport].append(claim)
        for claims in self._claims.values():
            claims.sort(key=lambda claim: claim.sure)

    def __len__(self) -> int:
        return len(self._claims) + len(self._ports)

    def expected(self, flow: Flow, at: int, until: int = 0) -> tuple[frozenset[Owner], str]:
        """Return who may be called the owner of `flow`, and in which role; empty for nobody.

        Args:
            flow: As the socket at this end sees it.
            at: When, CLOCK_MONOTONIC in nanoseconds.
            until: End of a span, where only a span is known.
        """
        until = max(at, until)
        claims = self._claims.get(flow, [])
        ports = self._with_port((*flow[:2], flow[3]), at, until)
        before = bisect.bisect_right([claim.sure for claim in claims], at)
        found = [c for c in claims if c.since <= until and c.sure > at]
        if before:
            found.append(claims[before - 1])
        else:
            found += [*claims[:1], *ports]
        role = claims[max(before - 1, 0)].role if claims else ports[0].role if ports else ""
        return frozenset().union(*(claim.owners() for claim in found)), role

    def _with_port(self, port: tuple[int, str, int], at: int, until: int) -> list[Claim]:
        """Return the claims to a port; one without role says that it is free again."""
        claims = self._ports.get(port, [])
        freed = [c for c in claims if not c.role and c.since <= until]
        if not freed:
            return [c for c in claims if c.since <= until]
        last = max(c.sure for c in freed)
        after = [c for c in claims if c.role and last <= c.sure and c.since <= until]
        if after or last <= at:
            return after
        before = [c for c in claims if c.role and c.since <= until]
        return [*before, freed[-1]]

    def of_packet(
        self,
        netns: int,
        protocol: str,
        source: tuple[str, int],
        destination: tuple[str, int],
        at: int,
        until: int = 0,
    ) -> tuple[frozenset[Owner], str]:
        """The same for a packet, which may be coming in or going out."""
        for local, remote in ((destination, source), (source, destination)):
            owners, role = self.expected((netns, protocol, *local, *remote), at, until)
            if owners:
                return owners, role
        return frozenset(), ""
