"""A real S3 server on loopback: rclone, with a bucket that is a folder."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "droptape", "not-a-secret"
BUCKET = "fleet"
PROGRAM = Path(sys.executable).parent / "rclone"
_START_S = 20


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serve `folder` as long as the ``with`` lasts; give the server's URL."""
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    arguments = ["serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    process = subprocess.Popen(
        [str(PROGRAM), *arguments, "--vfs-cache-mode", "off", "--config", "", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "rclone ended"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
