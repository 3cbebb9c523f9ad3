"""Which capabilities this process has, and which the recorder needs."""

from __future__ import annotations

from pathlib import Path

from .options import UsageError

# include/uapi/linux/capability.h
_NUMBERS = {
    "CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip


def effective() -> frozenset[str]:
    """Return the effective capabilities of this process, of those that matter here."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(name for name, bit in _NUMBERS.items() if bits >> bit & 1)
    return frozenset()


def missing() -> list[str]:
    """Return the capabilities that recording needs and this process lacks.

    CAP_BPF and CAP_PERFMON exist since Linux 5.8 (a17b53c4a4b5); CAP_SYS_ADMIN includes both.
    """
    have = effective()
    if "CAP_SYS_ADMIN" in have:
        return []
    return [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN") if name not in have]


def require() -> None:
    """Raise UsageError unless this process may record."""
    if missing():
        raise UsageError(
            "recording needs root (to load BPF programs and read kernel symbols): run it with sudo"
        )
