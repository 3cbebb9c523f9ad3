"""Where `droptape-record` begins: what it imports takes a quarter of a second."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the recorder and exit; Ctrl-C before it is there just ends the process."""
    python = signal.getsignal(signal.SIGINT)
    if python is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    signal.signal(signal.SIGINT, python)
    run()
