"""A long run in short: many connections and short-lived processes, and what grows meanwhile."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import command, load
from bench.programs import map_entries
from bench.table import Options, Row
from bench.usage import usage
from lab import Child, Lab
from lab.recorder import Recorder

_SAMPLES = 12
_NOISE = 5
"""Growth by less than this, in whatever unit, is none."""


@dataclass(frozen=True, slots=True)
class _Sample:
    rss_mb: float
    private_mb: float
    descriptors: float
    entries: float


def _connect(child: Child) -> int:
    done = 0
    child.ready()
    while not child.stopping():
        load.connection_ns(200)
        done += 200
    return done


def _fork(child: Child) -> int:
    """Start processes that connect to nobody and end."""
    done = 0
    child.ready()
    while not child.stopping():
        pid = os.fork()
        if pid == 0:
            load.refused_once()
            os._exit(0)
        os.waitpid(pid, 0)
        done += 1
    return done


def measure(options: Options) -> list[Row]:
    """Sample the recorder while connections and processes come and go."""
    samples: list[_Sample] = []
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name, Lab() as lab:
        host = lab.host("soak")
        load.many_ports(host)
        with Recorder(Path(name) / "rec", "--rotate-every", "5s") as recorder:
            tasks = [host.spawn(_connect), host.spawn(_fork)]
            for task in tasks:
                task.ready()
            time.sleep(options.soak_s / 4)
            for _ in range(_SAMPLES):
                time.sleep(options.soak_s * 0.75 / _SAMPLES)
                now = usage(recorder.pid)
                samples.append(
                    _Sample(now.rss_mb, now.private_mb, now.descriptors, map_entries(recorder.pid))
                )
            connections, processes = (task.stop(30) for task in tasks)
            time.sleep(2)
            left = map_entries(recorder.pid)
    return [
        Row(
            f"soak, {options.soak_s:.0f} s: {connections:,} connections, {processes:,} processes",
            f"{samples[-1].rss_mb:.0f} MB RSS, {samples[-1].descriptors:.0f} descriptors",
        ),
        _trend("memory (MB)", [s.private_mb for s in samples]),
        _trend("descriptors", [s.descriptors for s in samples]),
        _trend(
            "entries in BPF maps but caches", [s.entries for s in samples], f"{left:,} after it"
        ),
    ]


def _trend(what: str, values: list[float], then: str = "") -> Row:
    """Compare the mean of the first third with that of the last."""
    third = len(values) // 3
    first, last = (sum(part) / third for part in (values[:third], values[-third:]))
    rising = all(a <= b for a, b in itertools.pairwise(values)) and last > first + max(
        0.02 * first, _NOISE
    )
    return Row(
        f"soak: {what}, first and last third",
        f"{first:,.1f}, then {last:,.1f}" + (f", {then}" if then else ""),
        goal="no steady growth",
        met=not rising,
    )


if __name__ == "__main__":
    command.main({"soak": measure}, __doc__)
