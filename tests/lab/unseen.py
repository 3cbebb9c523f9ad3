"""Events that BPF programs are not shown.

The sandbox kernel these tests often run on (a 6.18) does not run BPF programs while the current
task belongs to its init process, and counts no recursion_misses for it. A packet that a soft
interrupt handles on top of init is then invisible to every BPF program: a few in ten thousand. The
tracepoint itself fires: ftrace, which this uses, has those events. Measured by counting
tcp_retransmit_skb and kfree_skb by both ways over 143 lossy transfers: BPF lacked 16 of about
90,000 events; those looked at were in the context of a thread of init.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

_EVENTS = (
    "skb/kfree_skb",
    "tcp/tcp_retransmit_skb",
    "tcp/tcp_retransmit_synack",
    "tcp/tcp_send_reset",
    "tcp/tcp_receive_reset",
    "sock/inet_sock_set_state",
)


class Unseen:
    """Counts the events in the context of init, with an ftrace instance of its own.

    Where the kernel has no tracefs, it counts nothing.

    Args:
        buffer_kb: room for events, per processor.
    """

    def __init__(self, buffer_kb: int = 1408) -> None:
        self._buffer_kb = buffer_kb
        # Mounted for itself: it may not be mounted, or read only.
        self._folder = Path(tempfile.mkdtemp(prefix="droptape-tracefs-"))
        self._instance = self._folder / "instances" / f"droptape-test-{secrets.token_hex(4)}"

    def __enter__(self) -> Unseen:
        mount = ["mount", "-t", "tracefs", "droptape-test", str(self._folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return self
        self._instance.mkdir()
        self._write("buffer_size_kb", str(self._buffer_kb))
        threads = " ".join(thread.name for thread in Path("/proc/1/task").iterdir())
        self._write("set_event_pid", threads)
        for event in _EVENTS:
            self._write(f"events/{event}/enable", "1")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._instance.is_dir():
            self._write("events/enable", "0")
            self._instance.rmdir()
            subprocess.run(["umount", str(self._folder)], check=False)
        self._folder.rmdir()

    @property
    def events(self) -> list[str]:
        """What happened in the context of init so far, a line each."""
        try:
            lines = (self._instance / "trace").read_text(errors="replace").splitlines()
        except OSError:
            return []
        return [line.strip() for line in lines if line and not line.startswith("#")]

    def _write(self, name: str, value: str) -> None:
        try:
            (self._instance / name).write_text(value)
        except FileNotFoundError:
            if not name.startswith("events/"):
                raise  # this kernel lacks the event otherwise
