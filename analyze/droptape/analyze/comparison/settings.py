"""What was set differently: kernel, sysctls, limits, listeners, and the recorder itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from droptape.analyze.sqlfiles import load

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_EPHEMERAL = 32_768
"""Ports from here on are usually given by the kernel (ip_local_port_range)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that differs; None where it is not there.

    Attributes:
        what: host, sysctl, limit, listener, recorder.
        name: which one.
        before: its value.
        after: its value.
    """

    what: str
    name: str
    before: str | None
    after: str | None


def differences(before: Recording, after: Recording) -> list[Setting]:
    """Return what differs between the recorded machines and how they were recorded."""
    found: list[Setting] = []
    for what, read in (
        ("host", _host),
        ("recorder", _recorder),
        ("sysctl", _sysctls),
        ("limit", _limits),
        ("listener", _listeners),
    ):
        old, new = read(before), read(after)
        if old is None or new is None:
            continue
        found += [
            Setting(what, name, old.get(name), new.get(name))
            for name in sorted(set(old) | set(new))
            if old.get(name) != new.get(name) and _matters(what, name, old, new)
        ]
    return found


def _matters(what: str, name: str, old: dict[str, str], new: dict[str, str]) -> bool:
    # A sysctl that one kernel or one namespace does not have was not changed by anyone.
    return what not in ("sysctl", "limit") or (name in old and name in new)


def _host(rec: Recording) -> dict[str, str]:
    hosts = [s.manifest.host for s in rec.sources if s.manifest is not None]
    return {
        name: ", ".join(sorted({str(getattr(host, name)) for host in hosts}))
        for name in ("name", "kernel", "os", "architecture", "cpus")
    }


def _recorder(rec: Recording) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in rec.sources:
        for probe in source.manifest.probes if source.manifest else ():
            state = "live" if probe.attached else f"missing: {probe.note or 'no reason given'}"
            found[probe.name] = state if found.get(probe.name, "live") == "live" else "missing"
    return found


def _sysctls(rec: Recording) -> dict[str, str] | None:
    if "sysctls" not in rec.views:
        return None
    rows = rec.database.ask(load("diff_sysctls")).fetchall()
    return dict(_joined((f"{name} ({p})" if p else name, value) for name, p, value in rows))


def _joined(pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Put the values of namespaces without a name together: nothing tells them apart."""
    values: dict[str, set[str]] = {}
    for name, value in pairs:
        values.setdefault(name, set()).add(str(value))
    for name, several in values.items():
        yield name, " or ".join(sorted(several))


def _limits(rec: Recording) -> dict[str, str] | None:
    if "counters" not in rec.views:
        return None
    sql = "SELECT max(value) FROM counters WHERE name = 'conntrack.max'"
    ((most,),) = rec.database.ask(sql).fetchall()
    found = {} if most is None else {"connection tracking table": str(most)}
    return found | {f"backlog of {name}": str(backlog) for name, backlog in _sockets(rec).items()}


def _listeners(rec: Recording) -> dict[str, str] | None:
    if "listeners" not in rec.views:
        return None
    return {name: "listening" for name in _sockets(rec) if _port(name) < _EPHEMERAL}


def _port(name: str) -> int:
    return int(name.split(" ")[0].rpartition(":")[2])


def _sockets(rec: Recording) -> dict[str, int]:
    """Return the listening sockets, with the limits of their accept queues."""
    columns = "recording, ts, netns, laddr, lport, owner_comm, backlog"
    for table in ("listeners", "listen"):
        if table in rec.views:
            known = {column.name for column in rec.views[table].columns}
            if known >= set(columns.split(", ")):
                rows = f"SELECT {columns} FROM {table} WHERE backlog > 0"
                return dict(rec.database.ask(load("diff_listeners", rows=rows)).fetchall())
    return {}
