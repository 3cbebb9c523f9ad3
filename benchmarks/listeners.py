"""What sampling takes: 1000 listening sockets, 100 network namespaces, with and without traffic."""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import command
from bench.table import Options, Row
from lab import Host, Lab
from lab.process import Child, LabError
from lab.recorder import Recorder

_SPACES, _LISTENERS = 100, 1000
_SETTLE_S = 4.0


def _listen(child: Child, count: int) -> None:
    """Listen on `count` ports, and connect to them in turn while asked to."""
    listeners = []
    for _ in range(count):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listeners.append(listener)
    child.ready()
    busy = False
    while True:
        order = child.receive(0.2 if busy else None)
        if order == "stop":
            return
        busy = order == "busy" or (busy and order is None)
        for listener in listeners[:1] if busy else ():
            with socket.create_connection(listener.getsockname()):
                listener.accept()[0].close()


def _sampler_s(pid: int) -> float:
    """Return the processor time of the thread that samples, by the scheduler's own account."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text() == "sampler\n":
            return int((thread / "schedstat").read_text().split()[0]) / 1e9
    raise LabError("the recorder has no thread called sampler")


def _share(pid: int, seconds: float) -> float:
    """Return that time as percent of one processor."""
    before, start = _sampler_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (_sampler_s(pid) - before) / (time.monotonic() - start)


def _measure(spaces: int, listeners: int, seconds: float, stack: ExitStack) -> tuple[float, float]:
    """Return the share of a processor at rest, and with a connection in each space every 0.2 s."""
    lab = stack.enter_context(Lab())
    hosts: list[Host] = [lab.host(f"space{number}") for number in range(spaces)]
    tasks = [host.spawn(_listen, listeners // spaces) for host in hosts]
    for task in tasks:
        task.ready()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="droptape-bench-"))
    recorder = stack.enter_context(Recorder(Path(folder) / "rec"))
    time.sleep(_SETTLE_S)
    rest = _share(recorder.pid, seconds)
    for task in tasks:
        task.send("busy")
    time.sleep(1)
    busy = _share(recorder.pid, seconds)
    for task in tasks:
        task.stop()
    recorder.stop()
    return rest, busy


def measure(options: Options) -> list[Row]:
    """Measure the recorder with one namespace and few sockets, then with many."""
    seconds = float(options.pick(20, 6))
    rows: list[Row] = []
    for spaces, listeners, goal in ((1, 1, 0.5), (_SPACES, _LISTENERS, 1.0)):
        with ExitStack() as stack:
            rest, busy = _measure(spaces, listeners, seconds, stack)
        what = f"{spaces} more namespaces, {listeners} listeners"
        rows.append(
            Row(
                f"{what}, nothing happens",
                f"{rest:.2f} % of a core",
                goal=f"under {goal:g} %",
                met=rest < goal,
            )
        )
        rows.append(
            Row(
                f"{what}, 5 connections/s in each",
                f"{busy:.2f} % of a core",
                note="listeners of all each second, counters in turn",
            )
        )
    return rows


if __name__ == "__main__":
    command.main({"listeners": measure}, __doc__ or "")
