"""What `--events connections` costs: work over loopback, watched with and without it.

Each round measures every kind of work unwatched, under the recorder as it is by default, and under
the recorder with connections too. The order changes from round to round. What counts is the
processor time of the work, which holds the programs that run in it: so other load on the machine
disturbs less than with the clock. Beside it there is the time of each program alone, as the kernel
measures it, above that of an empty one, and what the recorder itself spends on a row.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import command, load, programs
from bench.table import Options, Ratio, Row
from bench.usage import usage
from lab import Lab
from lab.recorder import Recorder

_DEFAULT = "drops,listen,resets,retransmits"
_WATCHED = {"unwatched": "", "default": _DEFAULT, "connections": f"{_DEFAULT},connections"}
_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class _Work:
    what: str
    run: Callable[[int], object]
    rounds: int

    def cpu_ns(self) -> float:
        """Do it; return the processor time of one round."""
        start = time.process_time_ns()
        self.run(self.rounds)
        return (time.process_time_ns() - start) / self.rounds


def _bulk(blocks: int) -> None:
    """Send blocks of 64 KB over loopback TCP and read them."""
    with socket.socket() as listener:
        listener.bind((load.LOOPBACK, 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    block, into = bytes(_BLOCK), bytearray(_BLOCK)
    with client, server:
        for _ in range(blocks):
            client.sendall(block)
            left = _BLOCK
            while left:
                left -= server.recv_into(into, left)


@contextlib.contextmanager
def _recording(events: str) -> Iterator[int]:
    if not events:
        yield 0
        return
    with (
        tempfile.TemporaryDirectory(prefix="droptape-bench-") as folder,
        Recorder(Path(folder) / "rec", "--events", events) as recorder,
    ):
        yield recorder.pid


def measure(options: Options) -> list[Row]:
    """Measure the slowdown, then the programs."""
    rounds = options.pick(9, 3)
    works = [
        _Work("1-byte ping-pong", load.ping_pong_ns, options.pick(60_000, 30_000)),
        _Work("64 KB blocks in bulk", _bulk, options.pick(30_000, 10_000)),
        _Work("connect, ask, close", load.connection_ns, options.pick(6_000, 3_000)),
    ]
    spent: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab:
        host = lab.host("load")
        load.many_ports(host)
        for number in range(rounds):
            names = list(_WATCHED)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                with _recording(_WATCHED[name]):
                    for work in works:
                        spent.setdefault((name, work.what), []).append(host.call(work.cpu_ns))
        rows = [
            _row(work.what, name, against, spent)
            for work in works
            for name, against in (("connections", "default"), ("connections", "unwatched"))
        ]
        return [*rows, *_programs(lambda: [host.call(work.cpu_ns) for work in works])]


def _row(what: str, name: str, against: str, spent: dict[tuple[str, str], list[float]]) -> Row:
    ours, theirs = spent[name, what], spent[against, what]
    middle = [sorted(values)[len(values) // 2] / 1000 for values in (ours, theirs)]
    return Row(
        f"{name}: {what}",
        f"{middle[0]:.2f} µs",
        f"{against} {middle[1]:.2f} µs",
        Ratio.of(ours, theirs),
    )


def _programs(work: Callable[[], object]) -> list[Row]:
    rows, ends = [], 0
    with (
        _recording("connections") as pid,
        programs.empty_program("tcp_probe") as empty,
        programs.statistics(),
    ):
        found = {
            name: fd for name, fd in programs.programs_of(pid).items() if "connections" in name
        }
        before = {name: programs.run_time(fd) for name, fd in found.items()}
        floor = programs.run_time(empty)
        start, spent = time.monotonic(), usage(pid).cpu_s
        work()
        time.sleep(1)
        busy, seconds = usage(pid).cpu_s - spent, time.monotonic() - start
        floor = programs.run_time(empty) - floor
        spent = usage(pid).cpu_s
        time.sleep(seconds)
        idle = usage(pid).cpu_s - spent
        for name, fd in sorted(found.items()):
            ran = programs.run_time(fd) - before[name]
            if ran.runs:
                net = ran.ns_per_run - floor.ns_per_run
                rows.append(Row(f"connections: {name}", f"{net:.0f} ns", f"{ran.runs:,} runs"))
            if name.startswith("connections_sta"):
                ends = ran.runs
    # A connection within the host changes its state ten times, on both sides, and makes two rows.
    rows.append(Row("connections: recorder, a row", f"{(busy - idle) / (ends / 5) * 1e6:.1f} µs"))
    return rows


if __name__ == "__main__":
    command.main({"connections": measure}, __doc__)
