"""Processes below the lab's: forked by the programs of the workload themselves."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec

from lab.process import die_with_parent, set_comm

_P = ParamSpec("_P")
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
"""Where the next process id can be chosen (CONFIG_CHECKPOINT_RESTORE)."""


_former: list[str] = []


def former_name() -> str:
    """Return what this process was called before it got its own name; "" when it was not forked."""
    return _former[-1] if _former else ""


def fork(comm: str, function: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> int:
    """Run `function` in a child called `comm`; return its process id.

    It ends with its parent, and without a word: only sockets close.
    """
    pid = os.fork()
    if pid == 0:
        _run(comm, lambda: function(*args, **kwargs))
    return pid


def _run(comm: str, function: Callable[[], object]) -> NoReturn:
    try:
        die_with_parent()
        _former.append(Path("/proc/self/comm").read_text().rstrip("\n"))
        set_comm(comm)
        with contextlib.suppress(OSError, EOFError):
            function()
    finally:
        os._exit(0)


def reap_by_itself() -> None:
    """Let the kernel forget children that end (signal(7): SIGCHLD ignored)."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def fork_as(pid: int, comm: str, function: Callable[[], object], *, tries: int = 20) -> int:
    """Fork a child with a given id that is free; return its id, or 0 when others were faster.

    The children that got another id end at once.
    """
    before = LAST_PID.read_text()
    try:
        for _ in range(tries):
            LAST_PID.write_text(str(pid - 1))
            child = os.fork()
            if child == 0:
                if os.getpid() != pid:
                    os._exit(0)
                _run(comm, function)
            if child == pid:
                return pid
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
    finally:
        LAST_PID.write_text(before)
    return 0
