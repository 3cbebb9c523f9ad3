"""Control groups: from the id in a record to a path, and from a path to a container."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from droptape.bpf.kernel import cgroup2_mount as find_mount

from .container_names import ContainerNames
from .patience import BusyError
from .readable import readable

_ID = r"(?P<id>[0-9a-f]{64})"
# Tried in this order on each part of a path, from the leaf up.
_RUNTIMES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (runtime, re.compile(pattern))
    for runtime, pattern in (
        ("docker", rf"docker-{_ID}\.scope"),
        ("containerd", rf"cri-containerd-{_ID}\.scope"),
        ("containerd", rf"(?:.*:)?cri-containerd:{_ID}"),
        ("containerd", rf"nerdctl-{_ID}\.scope"),
        ("crio", rf"crio-(?:conmon-)?{_ID}(?:\.scope)?"),
        ("podman", rf"libpod-(?:conmon-|payload-)?{_ID}(?:\.scope)?"),
        ("lxc", r"lxc\.payload\.(?P<id>[^/]+)"),
        ("lxc", r"lxc\.payload-(?P<id>[^/]+)"),
        ("systemd-nspawn", r"machine-(?P<id>.+)\.scope"),
        ("systemd-nspawn", r"systemd-nspawn@(?P<id>.+)\.service"),
    )
)
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_POD = re.compile(r"(?:kubepods[a-z-]*-)?pod(?P<uid>[0-9a-f]{8}[-_0-9a-f]{24,32})(?:\.slice)?")
_UNIT = re.compile(r".+\.(?:service|scope)")
_MOST_WAITING = 4096


class Identity(NamedTuple):
    """What a cgroup's path says.

    Attributes:
        container: the first 12 digits of an id, as the runtimes show it; a name with lxc and
            nspawn; ``pod<uid>`` for a pod's own group; a unit's name with systemd; None for others.
        runtime: what made it, ``kubernetes`` for a pod's own group; None when unknown.
        full_id: the whole id, or the name.
        pod: uid of the Kubernetes pod it belongs to.
    """

    container: str | None = None
    runtime: str | None = None
    full_id: str = ""
    pod: str | None = None


def identify(path: str) -> Identity:
    """Name the container, pod or unit of a cgroup path, and what made it.

    Args:
        path: below the cgroup mount, for example
            ``/system.slice/docker-<64 hex digits>.scope``.
    """
    parts = [part for part in path.split("/") if part]
    pod = _pod_of(parts)
    for i, part in reversed(list(enumerate(parts))):
        for runtime, pattern in _RUNTIMES:
            if match := pattern.fullmatch(part):
                name = _unescape(match["id"])
                short = name[:12] if _BARE_ID.fullmatch(name) else name
                return Identity(short, runtime, name, pod)
        if _BARE_ID.fullmatch(part):
            return Identity(part[:12], _parent_runtime(parts[:i]), part, pod)
        if i and parts[i - 1] == "lxc":
            return Identity(part, "lxc", part, pod)
    if pod is not None:
        return Identity(f"pod{pod}", "kubernetes", pod, pod)
    for part in reversed(parts):
        if _UNIT.fullmatch(part):
            return Identity(_unescape(part), "systemd", _unescape(part))
    return Identity()


def container_of(path: str) -> tuple[str | None, str | None]:
    """Return only the container and what made it (see `identify`)."""
    return identify(path)[:2]


def _pod_of(parts: list[str]) -> str | None:
    for part in reversed(parts):
        # containerd's systemd driver without delegation: <pod>.slice:cri-containerd:<id>
        if match := _POD.fullmatch(part.partition(":")[0]):
            return match["uid"].replace("_", "-")
    return None


def _parent_runtime(parents: list[str]) -> str | None:
    """Tell who made a group that is called by nothing but an id (the cgroupfs driver)."""
    for part in reversed(parents):
        if part in ("docker", "moby"):
            return "docker"
        if part.startswith("libpod"):
            return "podman"
        if part.startswith("crio"):
            return "crio"
        if part.startswith("kubepods") or _POD.fullmatch(part):
            return "containerd"
    return "containerd" if parents else None


def _unescape(name: str) -> str:
    """Undo systemd's escaping of unit names (systemd.unit(5))."""
    return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda m: _bytes(m[0]), name)


def _bytes(escaped: str) -> str:
    return bytes.fromhex(escaped.replace(r"\x", "")).decode("utf-8", "backslashreplace")


class CgroupRows:
    """Makes rows of the cgroups table, each when what its runtime calls it is known.

    A group has one row: a second one would count its events twice where tables are joined.
    """

    def __init__(self, source: str, names: ContainerNames) -> None:
        """Prepare.

        Args:
            source: what tells the paths: ``socket`` or ``process``.
            names: what the runtimes' own files tell.
        """
        self._source = source
        self._names = names
        self._waiting: dict[int, str] = {}

    def rows(self, paths: Mapping[int, str], *, last: bool = False) -> list[dict[str, object]]:
        """Return the rows of `paths` and of earlier ones that had to wait.

        Args:
            paths: by the id of the group in the events, each below its hierarchy's mount.
            last: nothing waits any longer.
        """
        asked, self._waiting = self._waiting | dict(paths), {}
        rows: list[dict[str, object]] = []
        for cgroup_id, path in asked.items():
            identity = identify(path)
            try:
                name = self._names.name(identity.full_id, identity.runtime)
            except BusyError:
                if not last and len(self._waiting) < _MOST_WAITING:
                    self._waiting[cgroup_id] = path
                    continue
                name = None
            rows.append(
                {
                    "id": cgroup_id,
                    "path": path,
                    "container": identity.container,
                    "runtime": identity.runtime,
                    "name": name,
                    "pod": identity.pod,
                    "source": self._source,
                }
            )
        return rows


class Cgroups:
    """Paths of control groups by id, which is the inode number of their folder.

    The tree is walked when an id is asked for that was not seen before.
    """

    def __init__(self, mount: Path | None = None, names: ContainerNames | None = None) -> None:
        """Use the cgroup2 file system at `mount`, or find it."""
        self._mount = mount if mount is not None else find_mount()
        self._rows = CgroupRows("socket", names if names is not None else ContainerNames())
        self._paths: dict[int, str] = {}

    def path(self, cgroup_id: int) -> str | None:
        """Return the path below the mount, ``/`` for the root; None when the group is gone."""
        if cgroup_id not in self._paths and self._mount is not None:
            self._paths = dict(_walk(self._mount))
        return self._paths.get(cgroup_id)

    def rows(self, ids: Iterable[int], *, last: bool = False) -> list[dict[str, object]]:
        """Return rows of the cgroups table for those of `ids` that exist (see `CgroupRows`)."""
        wanted = list(ids)
        if any(i not in self._paths for i in wanted) and self._mount is not None:
            self._paths = dict(_walk(self._mount))  # without those that are gone
        return self._rows.rows({i: self._paths[i] for i in wanted if i in self._paths}, last=last)


def _walk(mount: Path) -> Iterator[tuple[int, str]]:
    """Yield (inode, path) of every group; groups that vanish meanwhile are left out."""
    try:
        yield mount.stat().st_ino, "/"
    except OSError:
        return
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{mount}{folder}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        path = f"{folder}/{entry.name}"
                        pending.append(path)
                        yield entry.inode(), readable(path)
        except OSError:
            continue
