"""Where `droptape-record` begins: what it imports takes a quarter of a second."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from . import lean as lean  # the loader inherits its settings

if TYPE_CHECKING:
    from droptape.bpf.process import LoaderProcess

_NOT_TO_RECORD = {"-h", "--help", "--version", "--check", "--mark", "--print-completion"}


def main() -> NoReturn:
    """Run the recorder and exit; Ctrl-C before it is there just ends the process."""
    python = signal.getsignal(signal.SIGINT)
    if python is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_standard_streams()
    process = _loader()
    try:
        from .cli import main as run

        signal.signal(signal.SIGINT, python)
        run(process=process)
    finally:
        if process is not None:
            process.close()


def _loader() -> LoaderProcess | None:
    """Start the loader, which imports as much as this process does, where it will be needed."""
    options = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    if _NOT_TO_RECORD & {option.partition("=")[0] for option in options}:
        return None
    from droptape.bpf.process import LoaderProcess  # after Ctrl-C was seen to: it takes a while

    with suppress(OSError):  # it is tried again, and told
        return LoaderProcess()
    return None


def _open_standard_streams() -> None:
    """Give those that are closed to nobody: else the next file opened would get their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
