"""Other programs that watch the same tracepoint, where they run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_START_S, _END_S = 20.0, 30.0
_BPFTRACE_LINES = (
    "tracepoint:skb:kfree_skb "
    '{ printf("%llu %s %d %d %p\\n", nsecs, comm, args->protocol, args->reason, args->location); }'
)
_BPFTRACE_COUNT = "tracepoint:skb:kfree_skb { @[args->reason, args->location] = count(); }"


class PeerError(Exception):
    """A peer is not installed or does not run on this kernel."""


class Peer:
    """A running peer.

    Attributes:
        pid: Its process.
        output: What it wrote, once it has ended.
        messages: What it wrote to standard error, once it has ended.
    """

    def __init__(self, command: Sequence[str], output: Path, probes: int) -> None:
        """Start `command` and wait until it watches kfree_skb.

        Args:
            command: The program and its arguments.
            output: Where its standard output goes.
            probes: BPF programs it loads; 0 for perf, which needs none.
        """
        if shutil.which(command[0]) is None:
            raise PeerError(f"{command[0]} is not installed")
        self.output, self._errors = output, output.with_suffix(".err")
        before = _programs() if probes else 0
        with output.open("wb") as out, self._errors.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        self.pid = self._process.pid
        end = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < end:
            if _programs() > before if probes else self._recording():
                time.sleep(0.2)
                return
            time.sleep(0.02)
        self.stop()
        raise PeerError(f"{command[0]} does not run here: {self._last_words()}")

    def _recording(self) -> bool:
        """Perf has opened its events."""
        names = (_target(link) for link in Path(f"/proc/{self.pid}/fd").iterdir())
        return any("perf_event" in name for name in names)

    def _last_words(self) -> str:
        said = (self.messages or self.output.read_text(errors="replace")).strip().splitlines()
        telling = [line for line in said if "error:" in line.lower()] or said
        return telling[-1].strip()[:160] if telling else f"exit code {self._process.returncode}"

    @property
    def messages(self) -> str:
        """What it complained of."""
        return self._errors.read_text(errors="replace")

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _programs() -> int:
    """Count programs on kfree_skb: perf events with BPF are not listed elsewhere."""
    return sum(
        "bpf-prog" in _target(link)
        for folder in Path("/proc").glob("[0-9]*/fd")
        if os.access(folder, os.R_OK)
        for link in _listed(folder)
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name:
        yield Path(name)


@contextmanager
def _running(command: Sequence[str], output: Path, probes: int) -> Iterator[Peer]:
    peer = Peer(command, output, probes)
    try:
        yield peer
    finally:
        peer.stop()


@contextmanager
def perf_record(data: Path) -> Iterator[Peer]:
    """Record skb:kfree_skb on all processors into `data`."""
    command = ["perf", "record", "-e", "skb:kfree_skb", "-a", "-o", str(data)]
    with _running(command, data.with_suffix(".out"), 0) as peer:
        yield peer


@contextmanager
def perf() -> Iterator[Peer]:
    """Record into a folder that goes afterwards."""
    with _folder() as folder, perf_record(folder / "perf.data") as peer:
        yield peer


@contextmanager
def bpftrace_lines() -> Iterator[Peer]:
    """Print a line per event."""
    with _folder() as folder, _running(
        ["bpftrace", "-e", _BPFTRACE_LINES], folder / "lines", 1
    ) as peer:  # fmt: skip
        yield peer


@contextmanager
def bpftrace_count() -> Iterator[Peer]:
    """Count events by reason and location, in the kernel."""
    with _folder() as folder, _running(
        ["bpftrace", "-e", _BPFTRACE_COUNT], folder / "counts", 1
    ) as peer:  # fmt: skip
        yield peer


@contextmanager
def bcc_tool(name: str) -> Iterator[Peer]:
    """Run one of bcc's tools, as Debian (tcpdrop-bpfcc) or others call it."""
    found = next((n for n in (f"{name}-bpfcc", f"{name}.bt", name) if shutil.which(n)), None)
    if found is None:
        raise PeerError(f"{name} is not installed (bpfcc-tools)")
    with _folder() as folder, _running([found], folder / "lines", 1) as peer:
        yield peer


def perf_samples(data: Path) -> int:
    """Count the samples in a perf.data file."""
    text = subprocess.run(
        ["perf", "report", "-i", str(data), "--stats"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"SAMPLE events:\s+(\d+)", text)
    return int(found[1]) if found else 0
