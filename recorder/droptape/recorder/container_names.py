"""Names of containers, from the files in which their runtimes keep them.

No runtime is asked over its socket: it may be slow, or in the same trouble as the network. What
cannot be read has no name; the id from the cgroup path is always there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .careful import read_of_users, read_system_file
from .patience import Patience

_DOCKER = ("var/lib/docker/containers/{id}/config.v2.json",)
# containerd's own state has the OCI configuration of each container, Kubernetes' and nerdctl's.
_CONTAINERD = ("run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",)
_CRIO = (
    "run/containers/storage/overlay-containers/{id}/userdata/config.json",
    "var/lib/containers/storage/overlay-containers/{id}/userdata/config.json",
)
# Podman's lists; volatile ones are those of containers that were started with --rm.
_PODMAN = (
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/containers/storage/overlay-containers/volatile-containers.json",
    "run/containers/storage/overlay-containers/volatile-containers.json",
)
# Those of users: the folder that has one for each, and the file's place in that.
_PODMAN_OF_USERS = (
    ("home", ".local/share/containers/storage/overlay-containers/containers.json"),
    ("run/user", "containers/overlay-containers/volatile-containers.json"),
)
# OCI annotations: of containerd's CRI plugin, of CRI-O, of nerdctl.
_PARTS = (
    (
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.cri.container-name",
    ),
    ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"),
    ("nerdctl/namespace", "nerdctl/name"),
)
_AGAIN_S = 5.0
_MOST_FILES = 100
_MOST_BYTES = 16 << 20
"""Of all users' lists together, so that nobody's lists take long to read."""
_LONGEST = 1000
_ASKED = frozenset({"docker", "podman", "containerd", "crio"})


class ContainerNames:
    """Names by full id, read when they are asked for.

    Podman has one list for all: it is read again only after a while.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """Look below `root`."""
        self._root = root
        # Each its own: users' homes, of podman only, are what hangs most easily.
        self._patience = {runtime: Patience() for runtime in _ASKED}
        self._podman: dict[str, str] = {}
        self._podman_read = 0.0

    def name(self, full_id: str, runtime: str | None) -> str | None:
        """Return what `runtime` calls a container; None when no file tells.

        In Kubernetes that is ``namespace/pod/container``, and ``namespace/pod`` for the container
        that holds a pod together.

        Raises:
            BusyError: the files do not answer now; ask again later.
        """
        if runtime in ("lxc", "systemd-nspawn"):
            return full_id
        if runtime is None or runtime not in _ASKED:
            return None
        found = self._patience[runtime].ask(lambda: self._find(full_id, runtime))
        if found is None or len(found) > _LONGEST:
            return None
        # JSON may hold half of a surrogate pair, which no UTF-8 can.
        return found.encode("utf-8", "backslashreplace").decode()

    def _find(self, full_id: str, runtime: str) -> str | None:
        if runtime == "docker":
            found = next(self._read(_DOCKER, full_id), {})
            name = found.get("Name")
            return name.lstrip("/") or None if isinstance(name, str) else None
        if runtime == "podman":
            return self._podman_name(full_id)
        patterns = _CONTAINERD if runtime == "containerd" else _CRIO
        for found in self._read(patterns, full_id):
            if name := _annotated(found.get("annotations")):
                return name
        return None

    def _read(self, patterns: tuple[str, ...], full_id: str) -> Iterator[dict[str, Any]]:
        for pattern in patterns:
            for value in self._load(pattern.format(id=full_id)):
                if isinstance(value, dict):
                    yield value

    def _load(self, pattern: str) -> Iterator[Any]:
        try:
            paths = sorted(islice(self._root.glob(pattern), _MOST_FILES))
        except OSError:
            return
        for path in paths:
            try:
                value = _parsed(read_system_file(path))
            except OSError:
                continue
            yield value

    def _podman_name(self, full_id: str) -> str | None:
        if full_id not in self._podman and time.monotonic() - self._podman_read > _AGAIN_S:
            self._podman = self._of_users()
            for pattern in _PODMAN:
                for entries in self._load(pattern):
                    self._podman |= _podman_names(entries)
            self._podman_read = time.monotonic()
        return self._podman.get(full_id)

    def _of_users(self) -> dict[str, str]:
        """Return what users' lists say; nothing of a container that two of them name otherwise."""
        names: dict[str, str] = {}
        disputed: set[str] = set()
        left = _MOST_BYTES
        for place, inner in _PODMAN_OF_USERS:
            for content in read_of_users(self._root / place, inner):
                left -= len(content)
                if left < 0:
                    break
                for key, name in _podman_names(_parsed(content)).items():
                    if names.setdefault(key, name) != name:
                        disputed.add(key)
        return {key: name for key, name in names.items() if key not in disputed}


def _parsed(content: bytes) -> Any:
    """Return the JSON value, None for what is none or nested without end."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _podman_names(entries: object) -> dict[str, str]:
    names: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        key, called = entry.get("id"), entry.get("names")
        name = called[0] if isinstance(called, list) and called else None
        if isinstance(key, str) and isinstance(name, str):
            names[key] = name
    return names


def _annotated(annotations: object) -> str | None:
    if not isinstance(annotations, dict):
        return None
    for keys in _PARTS:
        parts = [annotations[key] for key in keys if isinstance(annotations.get(key), str)]
        # CRI-O calls the container that holds a pod together POD.
        parts = [part for part in parts if part and part != "POD"]
        if parts:
            return "/".join(parts)
    return None
