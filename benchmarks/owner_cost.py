"""What it costs to know the owners while nothing is dropped, by default and with --track-io.

By itself: with `--events resets`, whose programs do not run here. The default has the programs of
drops and refused connections too.

Measured in processor time of the one process that does both sides: what softirqs and programs take
meanwhile is part of it (without CONFIG_IRQ_TIME_ACCOUNTING), the waiting for a busy machine is not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench import command, load
from bench.table import Options, Ratio, Row
from lab import Lab
from lab.recorder import Recorder


@dataclass(frozen=True, slots=True)
class _Work:
    what: str
    run: Callable[[int], float]
    count: int
    most: float

    def processor_ns(self) -> float:
        """Do it `count` times; return the processor time of one, in nanoseconds."""
        start = time.thread_time_ns()
        self.run(self.count)
        return (time.thread_time_ns() - start) / self.count


@contextmanager
def _recorder(*options: str) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="droptape-bench-") as folder,
        Recorder(Path(folder) / "rec", *options),
    ):
        yield


_OFF, _ALONE, _DEFAULT, _TRACK_IO = "unwatched", "alone", "default", "--track-io"
_WATCHERS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    _OFF: nullcontext,
    _ALONE: lambda: _recorder("--events", "resets"),
    _DEFAULT: _recorder,
    _TRACK_IO: lambda: _recorder("--track-io"),
}


def measure(options: Options) -> list[Row]:
    """Measure both kinds of work unwatched and watched, in turn."""
    rounds, scale = options.pick(12, 4), options.pick(2, 1)
    works = (
        _Work("1-byte ping-pong", load.ping_pong_ns, 15_000 * scale, 1.03),
        _Work("connect, ask, close", load.connection_ns, 2_000 * scale, 1.05),
    )
    taken: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab:
        host = lab.host("load")
        load.many_ports(host)
        for number in range(rounds):
            # Not always in the same order: whoever is first finds cold caches.
            names = list(_WATCHERS)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with _WATCHERS[name]():
                    for work in works:
                        # The best of four: other work on the machine only ever adds.
                        spent = min(host.call(work.processor_ns) for _ in range(4))
                        taken.setdefault((name, work.what), []).append(spent)
    return [_row(name, work, taken) for work in works for name in list(_WATCHERS)[1:]]


def _row(name: str, work: _Work, taken: dict[tuple[str, str], list[float]]) -> Row:
    on, off = taken[name, work.what], taken[_OFF, work.what]
    ratio = Ratio.of(on, off)
    goal = name != _TRACK_IO
    return Row(
        f"owners, {name}: {work.what}",
        f"{sorted(on)[len(on) // 2] / 1000:.2f} µs",
        f"unwatched {sorted(off)[len(off) // 2] / 1000:.2f} µs",
        ratio,
        f"at most {work.most}" if goal else "",
        ratio.middle <= work.most if goal else None,
    )


if __name__ == "__main__":
    command.main({"owner_cost": measure}, __doc__)
