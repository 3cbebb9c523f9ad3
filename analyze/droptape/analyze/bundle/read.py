"""Opening a bundle, from whomever it comes.

A process of its own (safe.py) unpacks it: confined to reading the bundle and writing one folder,
with limits on time and memory. What it leaves there was looked at and written anew, so this process
reads nothing that a stranger wrote but plain values. When a damaged file makes the library that
reads it fail hard, it is that process that ends, and not this one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from droptape.analyze.errors import RecordingError

_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from droptape.analyze.bundle.safe import main; sys.exit(main())"
)
_SECONDS = 300
"""Unpacking the largest bundle that is allowed takes a part of it."""


def read(path: Path, folder: Path) -> None:
    """Unpack the bundle `path` to `folder`, a new one, which is then a recording's.

    Raises:
        RecordingError: it is no bundle, or a part of it is not as it should be; the text names it.
    """
    folder.mkdir(mode=0o700)
    setup = json.dumps({"bundle": str(path.absolute()), "folder": str(folder)}).encode()
    process = subprocess.Popen(
        [sys.executable, "-c", _START.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # not shown; /dev/null may not be opened in a confined process
        start_new_session=True,  # Ctrl-C is for this process to answer
    )
    with process:
        try:
            said, _ = process.communicate(setup + b"\n", timeout=_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise RecordingError(f"{path}: took longer than {_SECONDS} s to unpack") from exc
        finally:
            process.kill()
    lines = said.decode("utf-8", "replace").splitlines()
    last = json.loads(lines[-1]) if lines and process.returncode in (0, 2) else {}
    if last.get("error"):
        raise RecordingError(str(last["error"]))
    if not last.get("done"):
        raise RecordingError(f"{path}: {_member(lines)} is damaged: {_ended(process.returncode)}")


def _member(lines: list[str]) -> str:
    """Return the member that was being read when the process ended."""
    for line in reversed(lines):
        try:
            return str(json.loads(line)["at"])
        except (ValueError, KeyError, TypeError):
            continue
    return "what it holds"


def _ended(code: int) -> str:
    if code >= 0:
        return f"reading it failed (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"reading it failed ({name})"
