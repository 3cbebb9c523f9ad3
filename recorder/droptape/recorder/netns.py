"""Names of network namespaces."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from .cgroups import identify
from .container_names import ContainerNames
from .patience import BusyError
from .pid_namespace import INITIAL
from .process_groups import best_path, paths_of
from .readable import readable

PROC = Path("/proc")
NAMED = (Path("/run/netns"), Path("/var/run/docker/netns"))


def own_netns() -> int:
    """Return the inode number of the caller's network namespace; 0 when it cannot be told."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return 0


class NetnsNames:
    """Names by inode number, read when they are asked for.

    A namespace that nobody gave a name is called after the container of a process in it.
    """

    def __init__(
        self,
        proc: Path = PROC,
        named: tuple[Path, ...] = NAMED,
        containers: ContainerNames | None = None,
        *,
        tell_pids: bool = True,
    ) -> None:
        """Read from `proc` and `named`; without `tell_pids` process ids are left out."""
        self._tell_pids = tell_pids
        self._began_ns = time.time_ns()
        self._changed: dict[Path, int] = {}
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
        return [
            {
                "inum": inum,
                "name": names[inum][0] if inum in names else self._container(pids.get(inum)),
                "pid": pids.get(inum) if self._tell_pids else None,
                "since": names[inum][1] if inum in names else None,
            }
            for inum in sorted(wanted)
        ]

    def renamed(self, known: Mapping[int, object]) -> set[int]:
        """Return those of the `known` that have another name now; cheap when none can have."""
        changed: dict[Path, int] = {}
        for folder in self._named:
            try:
                changed[folder] = folder.stat().st_mtime_ns
            except OSError:
                continue
        if changed == self._changed:
            return set()
        self._changed = changed
        names = self._names()
        return {n for n, (name, _) in names.items() if n in known and known[n] != name}

    def _container(self, pid: int | None) -> str | None:
        """Return the name, else the id, of the container or unit that a process is in."""
        path = best_path(paths_of(pid, self._proc)) if pid else None
        if path is None:
            return None
        identity = identify(path)
        try:
            name = self._containers.name(identity.full_id, identity.runtime)
        except BusyError:
            name = None
        return name or identity.container

    def _names(self) -> dict[int, tuple[str, int | None]]:
        """Return names that namespaces are bound to, and since when unless that is long ago."""
        names: dict[int, tuple[str, int | None]] = {}
        for folder in self._named:
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            for entry in entries:
                try:
                    found = entry.stat()
                except OSError:
                    continue
                # That of the namespace itself: its inode was made when the name was.
                made = found.st_ctime_ns
                since = made if self._began_ns < made <= time.time_ns() else None
                names[found.st_ino] = readable(entry.name), since
        host = self._host()
        if host is not None:
            names[host] = "host", None
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
