"""Where a trouble takes place, and what a finding of it has to say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab import Host, Lab, Link, Wire


@dataclass(frozen=True)
class Expected:
    """A finding that a trouble has to bring about.

    Attributes:
        rule: Whose.
        host: In which namespace.
        severity: How severe.
        values: What its query has to give, among others.
        beside: Rules that may find something severe in the same namespaces too.
    """

    rule: str
    host: Host
    severity: str
    values: dict[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


class Stage:
    """Where one trouble takes place: hosts of its own, until the lab ends."""

    def __init__(self, lab: Lab, spare: Iterator[Host], wires: contextlib.ExitStack) -> None:
        """Prepare.

        Args:
            lab: Where links are made.
            spare: Hosts that nobody has used. They are older than the recording: the kernel gives
                the number of a namespace that is gone to the next one, and a finding is of a
                number.
            wires: Closes the wires.
        """
        self._lab, self._spare, self._wires = lab, spare, wires
        self.hosts: list[Host] = []

    def host(self) -> Host:
        """Take a host."""
        self.hosts.append(next(self._spare))
        return self.hosts[-1]

    def host_with(self, **settings: int) -> Host:
        """Make a host with settings below net (`core_somaxconn=4`).

        The recorder reads the settings of a host when it first sees it, and then seldom.
        """
        host = self._lab.host(f"set{len(self._lab.hosts)}")
        for name, value in settings.items():
            host.sysctl("net." + name.replace("_", ".", 1), value)
        self.hosts.append(host)
        return host

    def pair(self, **options: Any) -> tuple[Host, Host, Link]:
        """Make a server and a client, linked."""
        server, client = self.host(), self.host()
        return server, client, self.link(server, client, **options)

    def link(self, a: Host, b: Host, **options: Any) -> Link:
        """Link two hosts."""
        return self._lab.link(a, b, **{"offload": False, **options})

    def wired(self, **settings: int) -> tuple[Host, Wire]:
        """Make a server with a wire, and perhaps with settings."""
        server = self.host_with(**settings) if settings else self.host()
        return server, self._wires.enter_context(Wire(server))


Trouble = Callable[[Stage], Expected]
TROUBLES: dict[str, Trouble] = {}


def making(function: Trouble) -> Trouble:
    TROUBLES[function.__name__] = function
    return function
