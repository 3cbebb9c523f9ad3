"""Ctrl-C, and what else asks a command to end: told apart from what it makes fail.

DuckDB and others turn KeyboardInterrupt into errors of their own, or lose it. So it is noted that
it came, and whatever fails after that does so because of it. SIGTERM and SIGHUP are taken in the
same way, so that what was spilled to disk is removed.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
_AGAIN_S = 0.05


class _Seen:
    """What came.

    Attributes:
        number: the signal; 0 for none.
        held: it has to wait.
        watching: the signals that are noted.
    """

    number = 0
    held = False
    watching: ClassVar[list[signal.Signals]] = []


def watch() -> None:
    """Note them from now on, but for those that are ignored or somebody else's to answer."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, default in _DEFAULTS.items():
        if signal.getsignal(number) is default:
            signal.signal(number, _note)
            _Seen.watching.append(number)
    sys.unraisablehook = _lost


def came() -> bool:
    """Say whether one came."""
    return _Seen.number != 0


def code() -> int:
    """Return the exit code of what one ended, as shells say it: 130 for Ctrl-C."""
    return 128 + (_Seen.number or signal.SIGINT)


def forget() -> None:
    """Go on: what Ctrl-C was for has been stopped. KeyboardInterrupt where it was not Ctrl-C."""
    if _Seen.number not in (0, signal.SIGINT):
        raise KeyboardInterrupt
    _Seen.number = 0


def stop() -> None:
    """Raise the KeyboardInterrupt that came and got lost."""
    if _Seen.number:
        raise KeyboardInterrupt


@contextmanager
def later() -> Iterator[None]:
    """Hold it back to the end: it can leave a lock of a pool of threads held for ever."""
    held, before = _Seen.held, _Seen.number
    _Seen.held = True
    try:
        yield
    finally:
        _Seen.held = held
    if not held and _Seen.number != before:
        raise KeyboardInterrupt


def end() -> None:
    """Ignore them: the answer is out, and what is left to do takes no time."""
    for number in _Seen.watching:
        signal.signal(number, signal.SIG_IGN)


def _note(number: int, frame: FrameType | None) -> None:
    del frame
    _Seen.number = _Seen.number or number
    if not _Seen.held:
        raise KeyboardInterrupt


def _lost(unraisable: UnraisableHookArgs) -> None:
    """Interrupt again, soon: where this one came, as in a destructor, it has no effect."""
    if not _Seen.number:
        sys.__unraisablehook__(unraisable)
    elif issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_S, _thread.interrupt_main)
        again.daemon = True
        again.start()
