"""Which capabilities recording needs, and giving up the others once the probes are attached."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .options import UsageError

# include/uapi/linux/capability.h
NUMBERS = {
    "CAP_DAC_READ_SEARCH": 2, "CAP_KILL": 5, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip
_STATUS, _LAST_CAP = Path("/proc/self/status"), Path("/proc/sys/kernel/cap_last_cap")
_USER_SPACE = Path("/proc/self/ns/user")
_FIRST_USER_SPACE = 0xEFFFFFFD  # include/linux/proc_ns.h
_LOAD = ("CAP_BPF", "CAP_PERFMON")
# include/uapi/linux/prctl.h
_SET_KEEPCAPS, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 8, 24, 38
_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Need:
    """What capabilities are for.

    Attributes:
        names: all of them are needed, or `instead`.
        purpose: what does not work without them.
        later: whether it is still needed once the probes are attached.
        instead: a capability that the kernel takes in place of all `names`, or "".
    """

    names: tuple[str, ...]
    purpose: str
    later: bool
    instead: str = ""

    def served_by(self, have: Collection[str]) -> tuple[str, ...]:
        """Return which capabilities in `have` suffice; none when it is not met."""
        if all(name in have for name in self.names):
            return self.names
        return (self.instead,) if self.instead in have else ()

    def lacking(self, have: Collection[str]) -> list[str]:
        """Return what is not in `have` of `names`; nothing when the need is met."""
        return [] if self.served_by(have) else [name for name in self.names if name not in have]


# CAP_BPF and CAP_PERFMON exist since Linux 5.8 (a17b53c4a4b5). Measured on 6.18 by leaving out one
# at a time; older kernels check CAP_BPF also for reading maps (kernel/bpf/syscall.c, __sys_bpf).
# CAP_SYS_ADMIN: bpf_capable and perfmon_capable (include/linux/capability.h); for the type of
# program that sees sockets being made, bpf_prog_load (kernel/bpf/syscall.c).
NEEDS = (
    Need(_LOAD, "to load and attach the programs", later=True, instead="CAP_SYS_ADMIN"),
    Need(("CAP_SYSLOG",), "to name kernel functions (/proc/kallsyms)", later=True),
    Need(("CAP_NET_ADMIN",), "to see who makes UDP sockets", later=False, instead="CAP_SYS_ADMIN"),
    Need(("CAP_SYS_ADMIN",), "to enter network namespaces and read their counters", later=True),
    Need(("CAP_SYS_PTRACE",), "to find the namespaces and programs of processes", later=True),
    Need(("CAP_DAC_READ_SEARCH",), "to read what the runtimes call their containers", later=True),
)


def effective() -> frozenset[str]:
    """Return the effective capabilities of this process, of those that matter here.

    Those of root in a user namespace count for nothing: programs are the whole host's.

    Raises:
        UsageError: they cannot be told.
    """
    try:
        lines = _STATUS.read_bytes().split(b"\n")
    except OSError as exc:
        raise UsageError(
            f"{_STATUS} cannot be read ({exc.strerror}): recording needs the host's /proc"
        ) from exc
    for line in lines:
        if line.startswith(b"CapEff:") and not _in_user_namespace():
            bits = int(line.split()[1], 16)
            return frozenset(name for name, bit in NUMBERS.items() if bits >> bit & 1)
    return frozenset()


def _in_user_namespace() -> bool:
    try:
        return _USER_SPACE.stat().st_ino != _FIRST_USER_SPACE
    except OSError:
        return False  # a kernel without them


def advice() -> str:
    """Say how to run with more capabilities."""
    if _in_user_namespace():
        return "run it outside this user namespace (not in a rootless container)"
    return "run it with sudo"


def missing() -> list[str]:
    """Return the capabilities that this process lacks and without which nothing is recorded."""
    return NEEDS[0].lacking(effective())


def notes() -> list[str]:
    """Say what the recording will lack because this process has few capabilities."""
    have = effective()
    return [
        f"recorded without {' and '.join(lacks)}, which it takes {need.purpose}"
        for need in NEEDS
        if (lacks := need.lacking(have))
    ]


def require() -> None:
    """Raise UsageError unless this process may record."""
    if missing():
        raise UsageError(
            "recording needs root, or CAP_BPF and CAP_PERFMON (to load BPF programs): "
            f"{advice()}; --check has the whole list"
        )


def drop(uid: int | None, gid: int | None, *, signals: bool) -> frozenset[str]:
    """Give up for good what the recorder needs no more, in this thread and those it starts later.

    Args:
        uid: become this user; None to stay who one is.
        gid: become this group; None to stay in it.
        signals: go on to be able to signal a process of the user until now.

    Returns:
        The capabilities that stay.

    Raises:
        OSError: the kernel refuses.
    """
    have = effective()
    wanted = {name for need in NEEDS if need.later for name in need.names}
    if "CAP_SYS_ADMIN" in have:
        wanted -= set(_LOAD)  # it includes both
    if signals:
        wanted.add("CAP_KILL")
    kept = frozenset(have & wanted)
    bits = sum(1 << NUMBERS[name] for name in kept)
    for number in range(int(_LAST_CAP.read_text()) + 1):
        if not bits >> number & 1:
            # Without CAP_SETPCAP nothing can be dropped; no_new_privs has nearly the same effect.
            _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
    _prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    _prctl(_SET_KEEPCAPS, 1)
    if gid is not None and os.geteuid() == 0:
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
    if uid is not None:
        os.setresuid(uid, uid, uid)
    _prctl(_SET_KEEPCAPS, 0)
    _set(bits)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    return kept


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _set(bits: int) -> None:
    """Make `bits` the permitted and effective capabilities, none inheritable (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc.capset(header, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
