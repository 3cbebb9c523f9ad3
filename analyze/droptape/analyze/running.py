"""Running a command: whatever ends it becomes an exit code, and one line where it went wrong."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from . import interrupt
from .app import app
from .errors import DroptapeError, OutputClosed, QueryError
from .find import GONE
from .saying import say

# Click's own class: newer versions of Typer carry Click in themselves, under another name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run() -> int:
    """Run the command line; return 0, what the command says, or 2 when there is no answer.

    Raises:
        KeyboardInterrupt: Ctrl-C came, and something failed.
    """
    _open_streams()
    # Rich ends the process with 1, which for some commands is an answer.
    setattr(Console, "on_broken_pipe", _closed)  # noqa: B010
    try:
        code = app(prog_name="droptape", standalone_mode=False)
        _flush()
    except (OutputClosed, BrokenPipeError) as exc:
        # The reader has seen enough.
        code = exc.code if isinstance(exc, OutputClosed) else 0
    except (KeyboardInterrupt, typer.Abort):
        code = interrupt.code()
    except _UsageError as exc:
        code = _refuse(_usage(exc))
    except DroptapeError as exc:
        code = _refuse(str(exc))
    except MemoryError:
        code = _refuse("there is not enough memory: ask about less, such as with --from and --to")
    except OverflowError as exc:
        code = _refuse(f"a number or a time is too large: {exc}")
    except OSError as exc:
        why = exc.strerror or str(exc)
        if isinstance(exc, FileNotFoundError) and not exc.filename and not _is_somewhere():
            why = GONE
        code = _refuse(f"{exc.filename}: {why}" if exc.filename else why)
    _settle()
    return interrupt.code() if interrupt.came() else int(code or 0)


def _is_somewhere() -> bool:
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _refuse(text: str) -> int:
    interrupt.stop()
    if text:
        say(text)
    return 2


def _usage(exc: Exception) -> str:
    text: str = getattr(exc, "format_message", exc.__str__)()
    if type(exc).__name__ == "NoArgsIsHelpError":
        return ""  # the help has been shown
    text = " ".join(text.split()).replace("Value error, ", "").rstrip(".")
    command = getattr(getattr(exc, "ctx", None), "command_path", "droptape")
    return f"{text[:1].lower()}{text[1:]}; see {command} --help"


def _closed(console: Console) -> NoReturn:
    del console
    raise OutputClosed


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise QueryError(f"standard output cannot be written: {exc.strerror}") from exc


def _open_streams() -> None:
    """Give every standard stream something behind it, and errors for what it cannot encode."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The first free one, so this one. What is written to standard output has to fail.
            flags = os.O_WRONLY if number == 2 else os.O_RDONLY
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _settle() -> None:
    """Drop what could not be written: Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
