"""Containers on hosts with control groups of version 1.

A socket remembers its group of version 2 only (sock.sk_cgrp_data). Where containers are groups of
version 1, that is the root or nothing, and the process that owns the socket tells its container
instead: /proc/PID/cgroup has its path in every hierarchy (cgroups(7)). Such a group gets a negative
id, made from its path, which no group of version 2 has.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from droptape.bpf.kernel import cgroup2_mount
from droptape.format.decode import Records

from .cgroups import CgroupRows, identify
from .container_names import ContainerNames
from .pid_namespace import is_initial

PROC = Path("/proc")
_KEEP_S = 5.0
"""How long the group of a process is believed; it may move, and its id may be another's."""
_MOST = 4096


def paths_of(pid: int, proc: Path = PROC) -> dict[str, str]:
    """Return the paths of a process by hierarchy, version 2 as ""; empty when it is gone."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text("utf-8", "backslashreplace").split("\n")
    except OSError:
        return {}
    fields = (line.split(":", 2) for line in lines)
    return {parts[1]: parts[2] for parts in fields if len(parts) == 3}


def best_path(paths: dict[str, str]) -> str | None:
    """Return the path that names a container, else one that names a unit, else None."""
    unit = None
    for path in paths.values():
        identity = identify(path)
        if identity.runtime == "systemd":
            unit = unit or path
        elif identity.container is not None:
            return path
    return unit


def has_version_1(mountinfo: Path | None = None) -> bool:
    """Say whether any hierarchy of version 1 is mounted (proc_pid_mountinfo(5))."""
    try:
        lines = (mountinfo or PROC / "self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return False
    return any(line.partition(b" - ")[2].startswith(b"cgroup ") for line in lines)


def _root_id() -> int:
    """Return the id of the root group of version 2; 0 without."""
    mount = cgroup2_mount()
    try:
        return mount.stat().st_ino if mount is not None else 0
    except OSError:
        return 0


class ProcessGroups:
    """Groups of processes, where sockets do not tell theirs."""

    def __init__(
        self,
        proc: Path = PROC,
        names: ContainerNames | None = None,
        *,
        needed: bool | None = None,
    ) -> None:
        """Read from `proc`; `needed` says whether this host has version 1 (None: find out)."""
        self._proc = proc
        self._rows = CgroupRows("process", names if names is not None else ContainerNames())
        self._needed = is_initial() and has_version_1() if needed is None else needed
        self._by_pid: dict[int, tuple[float, int]] = {}
        self._paths: dict[int, str] = {}
        self._untold = [0, _root_id()]

    def fill(self, records: Records) -> None:
        """Give events whose socket tells no group that of their owner.

        Args:
            records: a batch of any event kind; changed in place.
        """
        if not self._needed:
            return
        ask = records["owner_pid"] != 0
        ask[ask] = np.isin(records["cgroup_id"][ask], self._untold)
        for pid in np.unique(records["owner_pid"][ask]).tolist():
            group = self._group(pid)
            if group:
                rows = ask & (records["owner_pid"] == pid)
                records["cgroup_id"][rows] = np.array(group, "i8").astype("u8")

    def _group(self, pid: int) -> int:
        """Return the made-up id of a process's group; 0 when it is in no container or unit."""
        now = time.monotonic()
        read, group = self._by_pid.get(pid, (-_KEEP_S, 0))
        if now - read < _KEEP_S:
            return group
        path = best_path({k: v for k, v in paths_of(pid, self._proc).items() if k})
        if len(self._by_pid) >= _MOST:
            self._by_pid.clear()
        if path is None:
            group = 0
        else:
            digest = hashlib.blake2b(path.encode(), digest_size=7).digest()
            group = -1 - int.from_bytes(digest, "little")
            self._paths.pop(group, None)
            self._paths[group] = path  # the last one now
            if len(self._paths) > _MOST:
                del self._paths[next(iter(self._paths))]
        self._by_pid[pid] = now, group
        return group

    def rows(self, ids: Iterable[int], *, last: bool = False) -> list[dict[str, object]]:
        """Return rows of the cgroups table for those of `ids` that were made up here.

        See `CgroupRows`.
        """
        signed = (i - 2**64 if i >= 2**63 else i for i in ids)
        return self._rows.rows({i: self._paths[i] for i in signed if i in self._paths}, last=last)
