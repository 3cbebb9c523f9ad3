"""The network namespaces of this host, and entering them.

No descriptor of a namespace is kept: it would keep a namespace alive, with its devices and
addresses, after its container has ended.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_SHARE, _SHORTEST_S = 0.001, 1.0
"""The regular search takes at most this share of a core, and pauses at least this long."""
_ASKED_SHARE = 0.01
"""The same for searches after an event of a namespace that is not known."""
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h
_DOORS = 4
"""Ways to remember: a process may have ended before its namespace is entered."""
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")
"""What mountinfo writes for spaces, tabs, newlines and backslashes in paths."""
_libc = ctypes.CDLL(None, use_errno=True)


class AwayError(Exception):
    """The thread is in another namespace and cannot go home.

    Not an OSError: it must not be taken for a namespace that cannot be read.
    """


def _enter(descriptor: int, path: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def namespace_cookie() -> int:
    """Return what tells the caller's namespace from all others since boot, unlike its number.

    0 on kernels that do not tell (before Linux 5.14, e8b9eab99232).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            cookie = asking.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
    return int.from_bytes(cookie, sys.byteorder)


class Namespaces:
    """Finds namespaces by the processes in them and by the files they are bound to.

    Belongs to one thread, which `inside` moves between namespaces; the other threads stay.

    Attributes:
        doors: for each known namespace, by inode number, paths to enter it by.
        born_after: for each of them, when (CLOCK_MONOTONIC, ns) it was searched for in vain; None
            for those of the first search, which may be of any age.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = str(proc)
        self._home_path = f"{proc}/thread-self/ns/net"
        self._home = os.open(self._home_path, os.O_RDONLY | os.O_CLOEXEC)
        self.home = os.fstat(self._home).st_ino
        self.doors: dict[int, list[str]] = {}
        self.born_after: dict[int, int | None] = {}
        self._searched_ns: int | None = None
        self._away = False
        self._cost = 0.0
        self._last = float("-inf")

    def close(self) -> None:
        """Give back the descriptor of the own namespace."""
        os.close(self._home)

    def due(self, *, asked: bool = False) -> bool:
        """Say whether it is time to search again; `asked` when something new was seen."""
        pause = self._cost / _ASKED_SHARE if asked else max(_SHORTEST_S, self._cost / _SHARE)
        return time.monotonic() - self._last >= pause

    def search(self) -> None:
        """Look for all namespaces anew; OSError when that cannot be done now.

        Then those that were known stay: what is found again later would seem to be new.
        """
        start, now_ns = time.thread_time(), time.monotonic_ns()
        doors = {self.home: [self._home_path]}
        for path in self._bound():
            self._add(doors, path)
        for name in os.listdir(self._proc):  # noqa: PTH208 (half the cost)
            if name.isdecimal():
                self._add(doors, f"{self._proc}/{name}/ns/net")
        self.doors = doors
        before, self._searched_ns = self._searched_ns, now_ns
        self.born_after = {inum: self.born_after.get(inum, before) for inum in doors}
        self._last, self._cost = time.monotonic(), time.thread_time() - start

    @staticmethod
    def _add(doors: dict[int, list[str]], path: str) -> None:
        try:
            paths = doors.setdefault(os.stat(path).st_ino, [])  # noqa: PTH116 (half the cost)
        except OSError:
            return  # it ended, or this process may not look at it
        if len(paths) < _DOORS:
            paths.append(path)

    def _bound(self) -> Iterator[str]:
        """Yield the files that namespaces are bound to: `ip netns`, Docker, CNI."""
        try:
            text = Path(self._proc, "self/mountinfo").read_bytes()
        except FileNotFoundError:
            return
        # Bytes: names need not be text, and what else ends a line of text may be part of a name.
        for line in text.split(b"\n"):
            # 36 35 0:4 net:[4026532247] /run/netns/blue rw … - nsfs nsfs rw (proc(5))
            fields = line.split(b" ", 5)
            if len(fields) > 4 and fields[3].startswith(b"net:["):
                yield os.fsdecode(_ESCAPED.sub(lambda m: bytes([int(m[1], 8)]), fields[4]))

    @contextmanager
    def inside(self, inum: int) -> Iterator[None]:
        """Be in namespace `inum` for a while.

        Raises:
            OSError: it is gone, or entering is not allowed (CAP_SYS_ADMIN).
            AwayError: the way home is barred; nothing is read as home's until it is free.
        """
        if inum == self.home:
            self._return()
            yield
            return
        self._go(inum)
        self._away = True
        try:
            yield
        finally:
            self._return()

    def _return(self) -> None:
        if not self._away:
            return
        try:
            _enter(self._home, self._home_path)
        except OSError as exc:
            raise AwayError(f"cannot go back to the own namespace: {exc.strerror}") from exc
        self._away = False

    def _go(self, inum: int) -> None:
        paths = self.doors[inum]
        while True:
            try:
                self._open(paths[0], inum)
            except (FileNotFoundError, ProcessLookupError):
                if len(paths) == 1:
                    raise
                del paths[0]
            else:
                return

    @staticmethod
    def _open(path: str, inum: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_ino != inum:
                raise ProcessLookupError(errno.ESRCH, "another namespace now", path)
            _enter(descriptor, path)
        finally:
            os.close(descriptor)
