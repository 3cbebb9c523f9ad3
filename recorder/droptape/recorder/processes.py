"""What is recorded of a process: who it is, not what it was told (no command lines)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .process_groups import best_path, paths_of
from .readable import readable

PROC = Path("/proc")

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def process_row(pid: int, proc: Path = PROC) -> dict[str, object] | None:
    """Return a row of the processes table, None when `pid` has ended.

    What cannot be read, for want of privilege or because the process ends meanwhile, is null.
    """
    folder = proc / str(pid)
    try:
        stat = (folder / "stat").read_bytes()
    except OSError:
        return None
    row: dict[str, object] = {"pid": pid, "seen": time.time_ns()}
    # proc_pid_stat(5): the name is in brackets and may itself contain brackets and spaces.
    opening, closing = stat.find(b"("), stat.rfind(b")")
    fields = stat[closing + 1 :].split()
    if opening < 0 or closing < 0 or len(fields) < 20:
        return None
    row["comm"] = stat[opening + 1 : closing].decode("utf-8", "backslashreplace")
    row["ppid"] = int(fields[1])
    row["started"] = _started_ns(int(fields[19]))
    row["uid"] = _uid(folder)
    row["exe"] = _exe(folder)
    row["cgroup"] = _cgroup(folder)
    return row


def _started_ns(ticks: int) -> int:
    """Return UTC of a start time in ticks since boot (field 22 of proc_pid_stat(5))."""
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boot + ticks * _TICK_NS


def _uid(folder: Path) -> int | None:
    """Return the effective user id."""
    try:
        # A process may call itself "\vUid: 0", and splitlines() would take that for a line.
        lines = (folder / "status").read_text("utf-8", "backslashreplace").split("\n")
    except OSError:
        return None
    return next((int(line.split()[2]) for line in lines if line.startswith("Uid:")), None)


def _exe(folder: Path) -> str | None:
    try:
        return readable((folder / "exe").readlink())
    except OSError:
        return None


def _cgroup(folder: Path) -> str | None:
    """Return the path in the hierarchy of version 2, or one of version 1 if only that tells."""
    paths = paths_of(int(folder.name), folder.parent)
    path = paths.pop("", None)
    return path if path not in (None, "/") else best_path(paths) or path
