"""Landlock: a process that can write nowhere but to one folder, and read little (Linux).

Called in the worker process before it reads a query. On kernels without Landlock, and elsewhere,
it does nothing and says so; the statement check and DuckDB's settings remain.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# System call numbers of Landlock, the same on every architecture.
_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag of landlock_create_ruleset: return the ABI version
_PATH_BENEATH = 1

# include/uapi/linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_NEWEST = (1 << 16) - 1  # ABI 5 adds ioctl on devices
_NET_ALL = 0b11  # bind and connect TCP, ABI 4
_SCOPE_ALL = 0b11  # abstract unix sockets and signals, ABI 6
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIGKILL = 9

_SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    # How much memory and how many processors there are; DuckDB 2.0 aborts when it can see the
    # first of these and not read it.
    "/proc/self/cgroup", "/proc/meminfo", "/proc/stat", "/sys/fs/cgroup", "/sys/devices/system/cpu",
)  # fmt: skip


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def abi() -> int:
    """Return the version of Landlock that the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    version = int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    return max(version, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_SIGKILL), 0, 0, 0)


def network_files() -> list[Path]:
    """Return what reading from S3-compatible storage needs: names of hosts, keys, certificates."""
    names = ("hosts", "resolv.conf", "nsswitch.conf", "host.conf", "gai.conf", "ssl", "pki")
    return [*(Path("/etc") / name for name in names), Path.home() / ".aws", Path("/run/systemd")]


def restrict(readable: Iterable[Path], writable: Path, *, network: bool = False) -> bool:
    """Confine this process and what it starts, for good.

    Args:
        readable: files and folders it may read, besides Python and the system's libraries.
        writable: the one folder it may write in.
        network: whether it may use the network.

    Returns:
        Whether the kernel enforces it.

    Raises:
        OSError: the kernel has Landlock and refused.
    """
    version = abi()
    if version == 0:
        return False
    handled = _ALL_BY_ABI.get(version, _ALL_NEWEST)
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", 0 if network else _NET_ALL)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPE_ALL)
    libc = _libc()
    ruleset = _call(libc, _CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in (*_python_folders(), *readable):
            _allow(libc, ruleset, path, _READ & handled)
        _allow(libc, ruleset, writable, handled)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _call(libc, _RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return True


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist needs no rule
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, fd)
        _call(
            libc, _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule,
            ctypes.c_uint32(0),
        )  # fmt: skip
    finally:
        os.close(fd)


def _python_folders() -> list[Path]:
    """Where Python, its packages and the system's libraries are: readable, or nothing loads."""
    folders = {
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        *filter(None, sys.path),
    }
    return [Path(folder) for folder in sorted(folders) if folder != "/"] + [*map(Path, _SYSTEM)]
