"""Processors that come while recording: what they refuse is seen only if it is known how."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from droptape.bpf import syscall
from droptape.bpf.client import Loaded

_ONLINE = Path("/sys/devices/system/cpu/online")


class UnwatchedProcessors:
    """Those whose counters of refused connections cannot be read (bpf/droptape/bpf/core/percpu.h).

    They were offline when the programs were loaded, on a kernel that does not tell where they would
    have theirs.
    """

    def __init__(self, loaded: Loaded) -> None:
        """Look which they are; OSError when the kernel refuses."""
        base = np.zeros(1, "u8")
        self._unwatched: set[int] = set()
        for cpu in range(loaded.cpus) if "map:cpu_base" in loaded.fds else ():
            syscall.map_lookup(loaded.fds["map:cpu_base"], np.array([cpu], "u4"), base)
            if not base[0]:
                self._unwatched.add(cpu)
        if len(self._unwatched) == loaded.cpus:
            self._unwatched.clear()  # no counter can be read at all: a probe tells why

    def came(self, online: Path = _ONLINE) -> str:
        """Say which of them are online; "" when none is."""
        if not self._unwatched:
            return ""
        came = sorted(self._unwatched & _numbers(online.read_text()))
        if not came:
            return ""
        return (
            f"processor {', '.join(map(str, came))} came online after the start: connections "
            "refused there are not told apart"
        )


def _numbers(text: str) -> set[int]:
    """Return the numbers of a kernel's list, such as ``0-3,8``."""
    out: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        out.update(range(int(first), int(last or first) + 1) if first else ())
    return out
