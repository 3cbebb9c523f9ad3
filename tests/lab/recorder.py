"""Run `droptape-record` as a user would, and know when it records."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from lab.process import LabError

PROGRAMS = Path(sys.executable).parent


class Recorder:
    """A running `droptape-record -o FOLDER …`, stopped on leaving the `with` block.

    Attributes:
        folder: The recording.
        pid: Its process.
        output: What it printed; complete after `stop`.
        seconds_to_ready: From start to live probes.
    """

    def __init__(self, folder: Path, *options: str, timeout: float = 90) -> None:
        self.folder = folder
        self.output = ""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  Closed in _collect.
        reader, writer = os.pipe()
        start = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [PROGRAMS / "droptape-record", "-o", folder, "--ready-fd", str(writer), *options],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
            )
        except OSError as error:
            os.close(reader)
            raise LabError(f"cannot run droptape-record: {error.strerror}") from None
        finally:
            os.close(writer)
        self.pid = self._process.pid
        try:
            readable = select.select([reader], [], [], timeout)[0]
            ready = bool(readable) and os.read(reader, 16) == b"ready\n"
        finally:
            os.close(reader)
        self.seconds_to_ready = time.monotonic() - start
        if not ready:
            self.kill()
            raise LabError(f"droptape-record did not start: {self.output.strip()}")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    def stop(self, number: int = signal.SIGINT, *, timeout: float = 30) -> int:
        """Send a signal, wait for the end; return the exit code (negative: the signal)."""
        self._process.send_signal(number)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise LabError(f"droptape-record did not end within {timeout:g} s") from None
        finally:
            self._collect()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._process.kill()
        self._collect()

    def _collect(self) -> None:
        self._process.wait()
        self._log.seek(0)
        self.output = self._log.read()
        self._log.close()
