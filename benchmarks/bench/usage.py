"""What a process uses, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time and memory of a process.

    Attributes:
        cpu_s: Its own processor time in seconds.
        children_cpu_s: That of children it has waited for.
        rss_mb: Resident memory now.
        private_mb: The part of it that is its own: neither libraries nor rings.
        descriptors: Open descriptors.
    """

    cpu_s: float
    children_cpu_s: float
    rss_mb: float
    private_mb: float
    descriptors: int


def usage(pid: int) -> Usage:
    """Read it."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return Usage(
        cpu_s=_run_time(folder),
        children_cpu_s=(int(fields[13]) + int(fields[14])) / _TICKS,
        rss_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        private_mb=int(status["RssAnon"].split()[0]) * 1024 / 1e6,
        descriptors=len(list((folder / "fd").iterdir())),
    )


def _run_time(folder: Path) -> float:
    """Sum the scheduler's own account of the threads: exact, where `stat` counts ticks."""
    total = 0
    for thread in (folder / "task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue
    return total / 1e9
