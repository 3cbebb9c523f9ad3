"""Child processes that run Python functions inside a network namespace.

A child is forked, so a function needs no import path and may be a closure. It
dies with the thread that made it (PR_SET_PDEATHSIG): a killed test leaves no
process, and with its last process an unnamed namespace goes too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# include/uapi/linux/sched.h and prctl.h
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)

# Descriptors of the parent that a forked child must not keep open.
_parent_only: set[int] = set()


class LabError(Exception):
    """Something in the lab could not be made, or a child did not do as asked."""


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(number)}")


def enter_namespace(pid: int) -> None:
    """Move the calling thread into the network namespace of process `pid`."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), "cannot enter the network namespace")
    finally:
        os.close(descriptor)


def new_namespace() -> None:
    """Move the calling thread into a new network namespace."""
    _check(_libc.unshare(_CLONE_NEWNET), "cannot make a network namespace")


def set_comm(name: str) -> None:
    """Set this process's name as /proc and the kernel show it (at most 15 bytes)."""
    Path("/proc/self/comm").write_text(name)


def keep_from_children(descriptor: int) -> None:
    """Have every child made from now on close `descriptor` at once."""
    _parent_only.add(descriptor)


def forget_descriptor(descriptor: int) -> None:
    """Undo `keep_from_children`, before the descriptor is closed and its number used again."""
    _parent_only.discard(descriptor)


class Child:
    """The child's side of its connection with the test that started it."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def ready(self, value: object = None) -> None:
        """Tell the parent that it may go on; `value` is what `Task.ready` returns."""
        self._connection.send(("ready", value))

    def receive(self, timeout: float | None = None) -> Any:
        """Return what the parent sent with `Task.send`; None after `timeout` seconds."""
        if not self._connection.poll(timeout):
            return None
        return self._connection.recv()

    def stopping(self, timeout: float | None = 0) -> bool:
        """Wait up to `timeout` seconds (None: for ever) for `Task.stop`."""
        return bool(self.receive(timeout) == "stop")


class Task(Generic[_R]):
    """A function running in a child process.

    Attributes:
        pid: The child's process id.
    """

    def __init__(self, pid: int, connection: Connection[Any, Any], name: str) -> None:
        self.pid = pid
        self._connection = connection
        keep_from_children(connection.fileno())
        self._name = name
        self._outcome: tuple[str, Any] | None = None

    def _next(self, wanted: str, timeout: float) -> Any:
        if self._outcome is None:
            if not self._connection.poll(timeout):
                raise LabError(f"{self._name}: no {wanted} within {timeout:g} s")
            try:
                kind, value = self._connection.recv()
            except (EOFError, ConnectionError):
                kind, value = "died", None
            if kind == "ready":
                if wanted == "ready":
                    return value
                return self._next(wanted, timeout)
            self._outcome = (kind, value)
            self._reap()
        kind, value = self._outcome
        if kind == "error":
            raise value
        if kind == "died" or wanted == "ready":
            raise LabError(f"{self._name}: ended without {wanted}")
        return value

    def ready(self, timeout: float = 10) -> Any:
        """Return what the function passed to `Child.ready`; raise what it raised."""
        return self._next("ready", timeout)

    def send(self, value: object) -> None:
        """Hand `value` to the function's `Child.receive`."""
        self._connection.send(value)

    def join(self, timeout: float = 60) -> _R:
        """Wait for the function; return its result or raise what it raised."""
        value: _R = self._next("result", timeout)
        return value

    def stop(self, timeout: float = 10) -> _R:
        """Ask the function to end (see `Child.stopping`) and return its result."""
        if self._outcome is None:
            # It may have ended already, with its result still waiting in the pipe.
            with contextlib.suppress(ConnectionError):
                self._connection.send("stop")
        return self.join(timeout)

    def kill(self) -> None:
        """End the child at once, if it still runs. Safe to call twice."""
        if self._outcome is None:
            self._outcome = ("died", None)
            os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        forget_descriptor(self._connection.fileno())
        self._connection.close()
        os.waitpid(self.pid, 0)


def _fork() -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 and later warn when other threads exist (NumPy's and
        # Arrow's do). The child only runs its function and leaves by _exit.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def die_with_parent() -> None:
    """Have the kernel end this process with the thread that made it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "cannot set the death signal")


def _settle(comm: str | None) -> None:
    """Make a fresh child independent of its parent's signal handling."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A terminal sends Ctrl-C to every process: only the parent cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in _parent_only:
        os.close(descriptor)
    if comm is not None:
        set_comm(comm)


def _as_sendable(error: BaseException) -> Exception:
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  Pickling runs arbitrary code of the exception's class.
        return LabError(text)
    return error if isinstance(error, Exception) else LabError(text)


def _run_and_exit(
    connection: Connection[Any, Any], enter: Callable[[], None], function: Callable[[], object]
) -> NoReturn:
    try:
        try:
            enter()
            outcome: tuple[str, object] = ("result", function())
        except BaseException as error:  # noqa: BLE001  It is raised again in the parent.
            outcome = ("error", _as_sendable(error))
        connection.send(outcome)
    finally:
        # Without flushing: what the parent had buffered is the parent's to write,
        # and a thread of the parent may have held the buffer's lock.
        os._exit(0)


def start(
    function: Callable[Concatenate[Child, _P], _R],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> Task[_R]:
    """Run `function(child, ...)` in a forked process of this network namespace."""
    return start_in(None, None, function, *args, **kwargs)


def start_in(
    namespace_pid: int | None,
    comm: str | None,
    function: Callable[Concatenate[Child, _P], _R],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> Task[_R]:
    """Run `function(child, ...)` in the network namespace of a process.

    Args:
        namespace_pid: Whose namespace; None for the caller's.
        comm: The child's process name; None keeps the parent's.
        function: What to run; its first argument is a `Child`.
        *args: Passed on.
        **kwargs: Passed on.

    Returns:
        The running task. Its result and its exceptions must be picklable.
    """
    ours, theirs = Pipe()
    pid = _fork()
    if pid == 0:
        ours.close()

        def enter() -> None:
            _settle(comm)
            if namespace_pid is not None:
                enter_namespace(namespace_pid)

        _run_and_exit(theirs, enter, lambda: function(Child(theirs), *args, **kwargs))
    theirs.close()
    return Task(pid, ours, comm or str(getattr(function, "__name__", "task")))
