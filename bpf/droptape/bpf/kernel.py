"""Facts about the running system that are not in BTF."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from itertools import pairwise
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


def symbol(name: str) -> int:
    """Return the address of a kernel symbol of any kind; 0 when it is not known."""
    needle = re.compile(rb"^([0-9a-f]+) \w " + name.encode() + rb"$", re.MULTILINE)
    match = needle.search(_KALLSYMS.read_bytes())
    return int(match[1], 16) if match else 0


def function_ranges(names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return start and end address of kernel functions; those that do not exist are left out.

    A function ends where the next symbol starts. Empty when the kernel hides its addresses
    (kernel.kptr_restrict).
    """
    wanted = {name.encode() for name in names}
    starts: dict[int, str] = {}
    addresses: list[int] = []
    for line in _KALLSYMS.read_bytes().splitlines():
        address, kind, name, *_ = line.split()
        if kind not in b"tTwW":
            continue
        value = int(address, 16)
        addresses.append(value)
        if name in wanted and value:
            starts.setdefault(value, name.decode())
    addresses.sort()
    out: dict[str, tuple[int, int]] = {}
    for start, end in pairwise(addresses):
        if start in starts and end > start:
            out[starts[start]] = (start, end)
    return out
