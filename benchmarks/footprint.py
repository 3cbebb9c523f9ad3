"""What the recorder itself takes: to start, at rest, and at different rates of events.

perf record on the same tracepoint runs in turn with it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import command, load, peers
from bench.table import Options, Ratio, Row
from bench.usage import Usage, usage
from lab import Host, Lab
from lab.recorder import Recorder

_RATES = (0, 1_000, 10_000, 100_000)
_SETTLE_S = 2.0
_LEAST_CPU = 0.05
"""Percent below which a ratio says nothing."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """Share of a processor, in percent, and memory at the end."""

    cpu: float
    rss_mb: float
    private_mb: float
    rate: float


@contextmanager
def _recorder(*options: str) -> Iterator[Recorder]:
    with (
        tempfile.TemporaryDirectory(prefix="droptape-bench-") as folder,
        Recorder(Path(folder) / "rec", *options) as recorder,
    ):
        yield recorder


def _sample(host: Host, pid: int, rate: int, seconds: float) -> _Sample:
    before, start = usage(pid), time.monotonic()
    if rate:
        sent = host.call(load.send_at_rate, rate, seconds)
    else:
        time.sleep(seconds)
        sent = 0
    spent = time.monotonic() - start
    after = usage(pid)
    cpu = 100 * (after.cpu_s + after.children_cpu_s - before.cpu_s - before.children_cpu_s) / spent
    return _Sample(cpu, after.rss_mb, after.private_mb, sent / spent)


def _start(what: str, rounds: int, options: Callable[[], tuple[str, ...]]) -> Row:
    seconds, cpu = [], []
    for _ in range(rounds):
        with _recorder(*options()) as recorder:
            seconds.append(recorder.seconds_to_ready)
            used: Usage = usage(recorder.pid)
            cpu.append(used.cpu_s + used.children_cpu_s)
    middle = statistics.median(seconds)
    return Row(
        f"start to live probes, {what}",
        f"{middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})",
        goal="under 1 s",
        met=middle < 1,
        note=f"takes {statistics.median(cpu):.2f} s of processor time, the loader included",
    )


def _other_programs() -> tuple[str, ...]:
    """Options that make programs which were not compiled before."""
    return "--max-rate", str(random.randrange(1_000_000, 2_000_000))


def measure(options: Options) -> list[Row]:
    """Start it several times, then watch it at each rate."""
    rounds = options.pick(5, 3)
    with _recorder():
        pass
    rows = [
        _start("programs compiled before", rounds, tuple),
        _start("first with this kernel", rounds, _other_programs),
    ]
    seconds, rounds = options.pick(4, 2), options.pick(2, 1)
    watchers: dict[str, Callable[[], AbstractContextManager[Recorder | peers.Peer]]] = {
        "droptape": _recorder,
        "perf record": peers.perf,
    }
    samples: dict[tuple[str, int], list[_Sample]] = {}
    with Lab() as lab:
        host = lab.host("load")
        for _ in range(rounds):
            for name, watcher in watchers.items():
                try:
                    with watcher() as running:
                        time.sleep(_SETTLE_S)
                        for rate in _RATES:
                            found = _sample(host, running.pid, rate, seconds)
                            samples.setdefault((name, rate), []).append(found)
                except peers.PeerError:
                    continue
    for rate in _RATES:
        rows += _rows(rate, samples["droptape", rate], samples.get(("perf record", rate), []))
    return rows


def _rows(rate: int, ours: list[_Sample], perf: list[_Sample]) -> list[Row]:
    def cpu(samples: list[_Sample]) -> str:
        return f"{statistics.median(s.cpu for s in samples):.2f} % of a core"

    middle = statistics.median(s.cpu for s in ours)
    memory = max(s.rss_mb for s in ours)
    comparable = bool(perf) and all(s.cpu >= _LEAST_CPU for s in perf)
    return [
        Row(
            f"recorder at {rate:,} events/s: processor",
            cpu(ours),
            f"perf record {cpu(perf)}" if perf else "",
            Ratio.of([s.cpu for s in ours], [s.cpu for s in perf]) if comparable else None,
            "" if rate else "under 0.5 %",
            None if rate else middle < 0.5,
        ),
        Row(
            f"recorder at {rate:,} events/s: memory",
            f"{memory:.0f} MB RSS, {max(s.private_mb for s in ours):.0f} MB private",
            goal="" if rate else "under 80 MB",
            met=None if rate else memory < 80,
        ),
    ]


if __name__ == "__main__":
    command.main({"footprint": measure}, __doc__)
