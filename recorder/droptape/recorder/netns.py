"""Names of network namespaces."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from .cgroups import identify
from .container_names import ContainerNames
from .patience import BusyError
from .pid_namespace import INITIAL
from .process_groups import best_path, paths_of
from .readable import readable

PROC = Path("/proc")
NAMED = (Path("/run/netns"), Path("/var/run/docker/netns"))
_IP, _DOCKER, _HOST, _PROCESS = "ip", "docker", "host", "process"
"""Sources of names; `NAMED` are the first two."""
# Of Kubernetes' network plugins, and of Podman.
_NUMBER = re.compile(r"(?:cni|netns)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Name(NamedTuple):
    text: str
    since: int | None
    source: str

    @property
    def is_number(self) -> bool:
        """Whether a program made it up: it tells nobody anything."""
        return self.source == _DOCKER or _NUMBER.fullmatch(self.text) is not None


def own_netns() -> int:
    """Return the inode number of the caller's network namespace; 0 when it cannot be told."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return 0


class NetnsNames:
    """Names by inode number, read when they are asked for.

    Attributes:
        lost: numbers of which the name is there no more, until they are asked for.

    A namespace that nobody gave a name is called after the container of a process in it. So is one
    that has but a number for a name, as those of Docker.
    """

    def __init__(
        self,
        proc: Path = PROC,
        named: tuple[Path, ...] = NAMED,
        containers: ContainerNames | None = None,
        *,
        tell_pids: bool = True,
    ) -> None:
        """Read from `proc` and `named` (as `NAMED`); without `tell_pids` leave process ids out."""
        self._tell_pids = tell_pids
        self._began_ns = time.time_ns()
        self._changed: dict[Path, int] = {}
        self._entries: dict[int, str] = {}
        self.lost: set[int] = set()
        self._proc = proc
        self._named = named
        self._containers = containers if containers is not None else ContainerNames()

    def rows(self, inums: Iterable[int]) -> list[dict[str, object]]:
        """Return a row of the netns table for each of `inums`; name and pid null if unknown.

        `since` is null for what had its name before this object was made, or has it from a process.
        """
        wanted = set(inums)
        names = self._names()
        pids = self._processes(wanted)
        entries = {n: names[n] for n in wanted & names.keys() if names[n].source != _HOST}
        self._entries |= {n: entry.text for n, entry in entries.items()}
        rows: list[dict[str, object]] = []
        for inum in sorted(wanted):
            name, pid = names.get(inum), pids.get(inum)
            if name is None or name.is_number:
                found = self._container(pid, units=name is None)
                if found is not None:
                    name = _Name(found, name.since if name else None, _PROCESS)
            rows.append(
                {
                    "inum": inum,
                    "name": name.text if name else None,
                    "pid": pid if self._tell_pids else None,
                    "since": name.since if name else None,
                    "source": name.source if name else None,
                }
            )
        return rows

    def renamed(self, known: Mapping[int, object]) -> set[int]:
        """Return those of the `known` that have another name now, or theirs no more.

        It is cheap when none can have.
        """
        changed: dict[Path, int] = {}
        for folder in self._named:
            try:
                changed[folder] = folder.stat().st_mtime_ns
            except OSError:
                continue
        if changed == self._changed:
            return self.lost & known.keys()
        self._changed = changed
        before, names = self._entries, self._names()
        return (self.lost & known.keys()) | {
            n
            for n, name in names.items()
            if n in known
            and known[n] != name.text
            and not (name.is_number and before.get(n) == name.text)
        }

    def _container(self, pid: int | None, *, units: bool) -> str | None:
        """Return the name, else the id, of the container that a process is in, or of its unit."""
        path = best_path(paths_of(pid, self._proc)) if pid else None
        if path is None:
            return None
        identity = identify(path)
        if not units and identity.runtime == "systemd":
            return None
        try:
            name = self._containers.name(identity.full_id, identity.runtime)
        except BusyError:
            name = None
        return name or identity.container

    def _names(self) -> dict[int, _Name]:
        """Return names that namespaces are bound to, and since when unless that is long ago."""
        names: dict[int, _Name] = {}
        listed = True
        for folder, source in zip(self._named, (_IP, _DOCKER), strict=False):
            try:
                entries = sorted(folder.iterdir())
            except OSError as exc:
                listed = listed and isinstance(exc, FileNotFoundError)
                continue
            for entry in entries:
                try:
                    found = entry.stat()
                except OSError as exc:
                    listed = listed and isinstance(exc, FileNotFoundError)
                    continue
                # That of the namespace itself: its inode was made when the name was.
                made = found.st_ctime_ns
                since = made if self._began_ns < made <= time.time_ns() else None
                names[found.st_ino] = _Name(readable(entry.name), since, source)
        host = self._host()
        if host is not None:
            names[host] = _Name("host", None, _HOST)
        if listed:
            gone = self._entries.keys() - names.keys()
            self.lost |= gone
            self._entries = {n: text for n, text in self._entries.items() if n not in gone}
        return names

    def _host(self) -> int | None:
        """Return the initial namespace's number; None when this is inside a container.

        There process 1 is the container's, and naming its namespace `host` would be wrong.
        """
        # The initial pid namespace has a fixed number, the initial network namespace not before
        # Linux 6.18; but the first processes of the one are in the other: kthreadd (2) always,
        # init (1) as a rule.
        for pid in ("2", "1"):
            spaces = self._proc / pid / "ns"
            try:
                if (spaces / "pid").stat().st_ino == INITIAL:
                    return (spaces / "net").stat().st_ino
            except OSError:
                continue
        return None

    def _processes(self, wanted: set[int]) -> dict[int, int]:
        """Find a process in each namespace: the one with the lowest id."""
        found: dict[int, int] = {}
        try:
            pids = sorted(int(p.name) for p in self._proc.iterdir() if p.name.isdecimal())
        except OSError:
            return found
        for pid in pids:
            try:
                inum = (self._proc / str(pid) / "ns/net").stat().st_ino
            except OSError:
                continue
            if inum in wanted and inum not in found:
                found[inum] = pid
                if len(found) == len(wanted):
                    break
        return found
