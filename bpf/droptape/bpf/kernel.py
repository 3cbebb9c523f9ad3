"""Facts about the running system that are not in BTF."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path

_CLOCK_MONOTONIC_COARSE = 6
_MOUNTINFO = Path("/proc/self/mountinfo")
_KALLSYMS = Path("/proc/kallsyms")
_POSSIBLE = Path("/sys/devices/system/cpu/possible")


def jiffy_us() -> int:
    """Return the length of a kernel tick in microseconds: the resolution of the coarse clock."""
    return round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e6)


def possible_cpus() -> int:
    """Return how many CPUs the kernel may ever have: per-CPU maps hold that many values."""
    last = _POSSIBLE.read_text().strip().replace(",", "-").split("-")[-1]
    return int(last) + 1


def cgroup2_mount(mountinfo: Path = _MOUNTINFO) -> Path | None:
    """Return where cgroup version 2 is mounted, None where it is not (proc_pid_mountinfo(5))."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split()[4])
            return Path(place)
    return None


class Symbols:
    """The kernel's symbols, as of now."""

    def __init__(self, kallsyms: Path = _KALLSYMS) -> None:
        """Read them all: that takes longer than to find some."""
        self._text = kallsyms.read_bytes()

    def address(self, name: str) -> int:
        """Return the address of a symbol of any kind; 0 when it is not known."""
        found = self._text.find(b" " + name.encode() + b"\n")
        return self._line(found)[0] if found >= 0 else 0

    def functions(self, names: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return start and end address of functions; those that do not exist are left out.

        A function ends where the next one starts: the kernel lists its own by address. Empty when
        it hides its addresses (kernel.kptr_restrict).
        """
        wanted = b"|".join(re.escape(name.encode()) for name in names)
        out: dict[str, tuple[int, int]] = {}
        for match in re.finditer(b" [tTwW] (" + wanted + b")\n", self._text) if names else ():
            start, _, at = self._line(match.start())
            end = start
            while end <= start and at < len(self._text):
                address, kind, at = self._line(at)
                end = address if kind in b"tTwW" else end
            if start and end > start:
                out.setdefault(match[1].decode(), (start, end))
        return out

    def _line(self, at: int) -> tuple[int, bytes, int]:
        """Return address and kind from the line that holds `at`, and where the next one begins."""
        begin = self._text.rfind(b"\n", 0, at) + 1
        end = self._text.find(b"\n", at) + 1 or len(self._text)
        address, kind, *_ = self._text[begin:end].split(maxsplit=2)
        return int(address, 16), kind, end
