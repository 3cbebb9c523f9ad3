"""Time that the programs take in the kernel, by the kernel's own statistics.

Each value is what a program takes beyond an empty one on the same tracepoint, measured meanwhile:
most of an empty program's time is the measuring itself.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import command, load, programs
from bench.table import Options, Ratio, Row
from lab import Host, Lab
from lab.recorder import Recorder


@dataclass(frozen=True, slots=True)
class _Case:
    what: str
    program: str
    tracepoint: str
    work: Callable[[], object]
    goal_ns: float | None = None


def _leave_unread(count: int) -> None:
    """Close UDP sockets that hold unread datagrams: the kernel drops them, which is benign."""
    for _ in range(count // 64):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
            reader.bind((load.LOOPBACK, 0))
            sender = load.Datagrams(reader.getsockname()[1])
            sender.send(64)
            sender.close()


def _cases(host: Host, events: int) -> list[_Case]:
    full = host.spawn(load.never_read).ready()
    drop, state = ("drops_kfree_skb", "kfree_skb"), ("track_state", "inet_sock_set_state")
    connections = events // 100
    return [
        _Case("drop with its socket and owner", *drop, lambda: load.datagram_ns(events, full), 500),
        _Case("drop without socket", *drop, lambda: load.datagram_ns(events), 500),
        _Case("benign drop, only counted", *drop, lambda: _leave_unread(events), 70),
        _Case(
            "refused-connection filter",
            "listen_consume_",
            "consume_skb",
            lambda: load.connection_ns(connections),
        ),
        _Case("socket state change", *state, lambda: load.connection_ns(connections)),
        _Case(
            "socket destroyed",
            "track_destroy",
            "tcp_destroy_sock",
            lambda: load.connection_ns(connections),
        ),
    ]


def measure(options: Options) -> list[Row]:
    """Measure every program under the work that makes it run."""
    rounds, events = options.pick(7, 3), options.pick(40_000, 20_000)
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="droptape-bench-")))
        lab = stack.enter_context(Lab())
        host = lab.host("load")
        load.many_ports(host)
        cases = _cases(host, events)
        empty = {
            name: stack.enter_context(programs.empty_program(name))
            for name in {case.tracepoint for case in cases}
        }
        recorder = stack.enter_context(Recorder(folder / "rec", "--max-rate", "0"))
        ours = programs.programs_of(recorder.pid)
        for descriptor in ours.values():
            stack.callback(os.close, descriptor)
        stack.enter_context(programs.statistics())
        for case in cases:
            program = next(fd for name, fd in ours.items() if name.startswith(case.program[:15]))
            rows.append(_row(host, case, program, empty[case.tracepoint], rounds))
    return rows


def _row(host: Host, case: _Case, program: int, empty: int, rounds: int) -> Row:
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(rounds + 1):
        before = programs.run_time(program), programs.run_time(empty)
        host.call(case.work)
        ours.append((programs.run_time(program) - before[0]).ns_per_run)
        floor.append((programs.run_time(empty) - before[1]).ns_per_run)
    # The first round fills caches and the map of owners.
    ours, floor = ours[1:], floor[1:]
    net = statistics.median(a - b for a, b in zip(ours, floor, strict=True))
    return Row(
        f"program time: {case.what}",
        f"{net:.0f} ns",
        f"empty program {statistics.median(floor):.0f} ns",
        Ratio.of(ours, floor),
        f"under {case.goal_ns:.0f} ns" if case.goal_ns else "",
        net < case.goal_ns if case.goal_ns else None,
    )


if __name__ == "__main__":
    command.main({"program_time": measure}, __doc__)
