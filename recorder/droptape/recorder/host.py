"""The recorded machine and its clocks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path

from droptape.format.manifest import Clock, Host

from .options import UsageError
from .readable import readable

_TOLERANCE_NS = 200_000
_TIME_NAMESPACE = Path("/proc/self/timens_offsets")


def check_clock(offsets: Path = _TIME_NAMESPACE) -> None:
    """Raise UsageError in a time namespace: the kernel's times are not those seen there."""
    try:
        lines = offsets.read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return  # since Linux 5.6
    if any(int(part) for line in lines for part in line.split()[1:]):
        raise UsageError(
            "the clocks of this time namespace are not the kernel's: record outside of it"
        )


def host() -> Host:
    """Describe this machine.

    The machine id identifies a host for life (machine-id(5)), so a keyed hash of it is stored:
    recordings of one host can be told to belong together, the id itself is not given away.
    """
    uname = os.uname()
    return Host(
        name=readable(uname.nodename),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        kernel=uname.release,
        architecture=uname.machine,
        cpus=os.cpu_count() or 0,
        os=_os_name(),
        machine_id=_machine_id(),
    )


def clock_pair() -> Clock:
    """Read the clocks together: the closest of a few readings, in nanoseconds."""
    best: tuple[int, Clock] | None = None
    for _ in range(5):
        before = time.monotonic_ns()
        wall, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, Clock((before + after) // 2, wall, boot))
    assert best is not None
    return best[1]


class SteadyOffset:
    """UTC minus CLOCK_MONOTONIC, which changes only when the clocks really moved apart.

    Two readings differ by what happened between them, some 100 ns. Using each as it comes would
    jumble rows that came at the same time and make the column of offsets as large as that of times.
    """

    def __init__(self) -> None:
        self._offset: int | None = None

    def __call__(self) -> int:
        """Return the offset in nanoseconds, right to 0.2 ms."""
        pair = clock_pair()
        now = pair.wall_ns - pair.mono_ns
        if self._offset is None or abs(now - self._offset) > _TOLERANCE_NS:
            self._offset = now
        return self._offset


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "backslashreplace").strip()
    except OSError:
        return ""


def _os_name() -> str:
    with contextlib.suppress(OSError, ValueError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return ""


def _machine_id() -> str:
    raw = _read("/etc/machine-id")
    return hashlib.blake2b(raw.encode(), digest_size=16, key=b"droptape").hexdigest() if raw else ""
