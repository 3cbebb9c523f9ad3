"""Where something happened: the network namespace and the container, in words and for commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from droptape.analyze.engine import literal
from droptape.analyze.source import Source
from droptape.analyze.sqlfiles import load

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_UNIT = ".service"


@dataclass
class Places:
    """The namespaces and containers of one recording."""

    rec: Recording
    source: Source

    def namespace(self, netns: int | None) -> tuple[str, str]:
        """Return what runs a command in a namespace, and how to speak of that namespace."""
        label, pid, source = self._namespaces.get(netns or 0, (None, None, None))
        if netns is None or label == "host":
            return "", ""
        place = f" in network namespace {label or netns}"
        if label and (source == "ip" or source is None):
            return f"ip netns exec {shlex.quote(label)} ", place
        if pid:
            return f"nsenter -t {pid} -n ", place if label else f"{place} (that of process {pid})"
        return "nsenter --net=/proc/PID/ns/net ", place

    def container(self, pid: int | None) -> str:
        """Return how to speak of the container or service of a process; "" when it has none."""
        name, runtime = self._containers.get(-1 if pid is None else pid, ("", None))
        if runtime == "systemd":
            return f" of {name}" if name.endswith(_UNIT) else ""
        return f" in container {name}" if name else ""

    @cached_property
    def _namespaces(self) -> dict[int, tuple[str | None, int | None, str | None]]:
        if "netns" not in self.source.tables:
            return {}
        # Recordings of earlier versions do not say what gave a namespace its name.
        source = "source" if self._told("netns", "source") else "NULL"
        rows = self.rec.database.ask(
            f"SELECT inum, name, pid, {source} FROM netns "
            f"WHERE recording = {literal(self.source.name)}"
        ).fetchall()
        found: dict[int, tuple[str | None, int | None, str | None]] = {}
        for inum, label, pid, source in rows:
            # One without a name may say when the name ended.
            if label is not None or found.get(inum, (None,))[0] is None:
                found[inum] = label, pid, source
        return found

    @cached_property
    def _containers(self) -> dict[int, tuple[str, str | None]]:
        groups = self._told("cgroups", "container") and self._told("cgroups", "runtime")
        if not groups or not self._told("processes", "cgroup"):
            return {}
        # Nor do they say what the runtime calls it.
        called = "c.name" if self._told("cgroups", "name") else "NULL"
        sql = load("diagnosis_containers", called=called, recording=literal(self.source.name))
        rows = self.rec.database.ask(sql).fetchall()
        return {pid: (name, runtime) for pid, name, runtime in rows}

    def _told(self, table: str, column: str) -> bool:
        """Say whether this version of the format has a column; not all recordings are of ours."""
        stored = table in self.source.tables
        return stored and any(c.name == column for c in self.rec.views[table].columns)
