"""Facts about the running system that are not in BTF."""

from __future__ import annotations

import os
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
    """Return where cgroup version 2 is mounted and not hidden by another mount, None if nowhere."""
    try:
        lines = mountinfo.read_bytes().split(b"\n")
    except OSError:
        return None
    for line in lines:
        # 41 31 0:38 / /sys/fs/cgroup rw … - cgroup2 cgroup2 rw (proc_pid_mountinfo(5))
        before, _, after = line.partition(b" - ")
        if after.startswith(b"cgroup2 "):
            device, _, escaped = before.split(b" ")[2:5]
            place = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), escaped)
            if _device(place) == device:
                return Path(os.fsdecode(place))
    return None


def _device(place: bytes) -> bytes | None:
    """Return which file system is seen at `place`, as mountinfo writes it."""
    try:
        device = os.stat(place).st_dev  # noqa: PTH116 (bytes)
    except OSError:
        return None
    return f"{os.major(device)}:{os.minor(device)}".encode()


class Symbols:
    """The kernel's symbols, as of now."""

    def __init__(self, kallsyms: Path = _KALLSYMS) -> None:
        """Read them all: that takes longer than to find some."""
        self._text = kallsyms.read_bytes()

    def address(self, name: str) -> int:
        """Return the address of a symbol of any kind; 0 when it is not known."""
        found = re.search(b" " + re.escape(name.encode()) + b"[\n\t]", self._text)
        return self._line(found.start())[0] if found else 0

    def functions(self, names: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return start and end address of functions; those that do not exist are left out.

        A function ends where the next one of the kernel, or of its module, starts. Empty when the
        kernel hides its addresses (kernel.kptr_restrict).
        """
        wanted = b"|".join(re.escape(name.encode()) for name in names)
        out: dict[str, tuple[int, int]] = {}
        for match in re.finditer(b" [tTwW] (" + wanted + b")[\n\t]", self._text) if names else ():
            start, _, at = self._line(match.start())
            if start:
                module = self._text[match.end() : at].strip() if match[0].endswith(b"\t") else b""
                end = self._next_of(module, start) if module else self._next(start, at)
                out.setdefault(match[1].decode(), (start, end))
        return {name: found for name, found in out.items() if found[1] > found[0]}

    def _next(self, start: int, at: int) -> int:
        """Return the first address of a function after `start`, 0 without: they are in order."""
        while at < len(self._text):
            address, kind, at = self._line(at)
            if address > start and kind in b"tTwW":
                return address
        return 0

    def _next_of(self, module: bytes, start: int) -> int:
        """The same for a module, whose symbols are in no order; its last ends at any other."""
        for end in b"\t" + re.escape(module) + b"$", b"":
            those = re.finditer(rb"^([0-9a-f]+) [tTwW] \S+" + end, self._text, re.MULTILINE)
            after = [address for m in those if (address := int(m[1], 16)) > start]
            if after:
                return min(after)
        return 0

    def _line(self, at: int) -> tuple[int, bytes, int]:
        """Return address and kind from the line that holds `at`, and where the next one begins."""
        begin = self._text.rfind(b"\n", 0, at) + 1
        end = self._text.find(b"\n", at) + 1 or len(self._text)
        address, kind, *_ = self._text[begin:end].split(maxsplit=2)
        return int(address, 16), kind, end
