"""Ctrl-C: told apart from what it makes fail.

DuckDB and others turn KeyboardInterrupt into errors of their own, or lose it. So it is noted that
it came, and whatever fails after that does so because of it.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

CODE = 130
"""What ends with Ctrl-C ends with this, as shells say it."""
_AGAIN_S = 0.05


class _Seen:
    """Attributes: came: whether Ctrl-C came. watching: whether it is noted. held: till later."""

    came = False
    held = False
    watching = False


def watch() -> None:
    """Note from now on that Ctrl-C came, unless it is ignored or is somebody else's to answer."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _note)
    sys.unraisablehook = _lost
    _Seen.watching = True


def came() -> bool:
    """Say whether Ctrl-C came."""
    return _Seen.came


def forget() -> None:
    """Go on: what Ctrl-C was for has been stopped."""
    _Seen.came = False


def stop() -> None:
    """Raise the KeyboardInterrupt that came and got lost."""
    if _Seen.came:
        raise KeyboardInterrupt


@contextmanager
def later() -> Iterator[None]:
    """Hold Ctrl-C back to the end: it can leave a lock of a pool of threads held for ever."""
    _Seen.held = True
    try:
        yield
    finally:
        _Seen.held = False
    stop()


def end() -> None:
    """Ignore Ctrl-C: the answer is out, and what is left to do takes no time."""
    if _Seen.watching:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _note(number: int, frame: FrameType | None) -> None:
    del number, frame
    _Seen.came = True
    if not _Seen.held:
        raise KeyboardInterrupt


def _lost(unraisable: UnraisableHookArgs) -> None:
    """Interrupt again, soon: where this one came, as in a destructor, it has no effect."""
    if not _Seen.came:
        sys.__unraisablehook__(unraisable)
    elif issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_S, _thread.interrupt_main)
        again.daemon = True
        again.start()
