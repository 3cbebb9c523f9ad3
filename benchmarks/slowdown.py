"""How much slower work gets while it is watched: by the recorder and by its peers.

Each round measures the work unwatched and then under each watcher.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import command, load, peers
from bench.table import Options, Ratio, Row
from lab import Host, Lab
from lab.recorder import Recorder

Watcher = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class _Work:
    what: str
    run: Callable[[], float]
    drops: bool
    most: float | None = None


@contextmanager
def _recorder() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="droptape-bench-") as folder,
        Recorder(Path(folder) / "rec"),
    ):
        yield


_PEERS: dict[str, Watcher] = {
    "perf record": peers.perf,
    "bpftrace, counting": peers.bpftrace_count,
    "bpftrace, a line per event": peers.bpftrace_lines,
    "bcc tcpdrop": lambda: peers.bcc_tool("tcpdrop"),
    "bcc tcpretrans": lambda: peers.bcc_tool("tcpretrans"),
}


def measure(options: Options) -> list[Row]:
    """Measure every kind of work under the recorder, and the dropping one under the peers."""
    rounds = options.pick(5, 2)
    scale = options.pick(2, 1)
    works = [
        _Work("datagrams to a closed port", lambda: load.datagram_ns(100_000 * scale), True),
        _Work("1-byte ping-pong", lambda: load.ping_pong_ns(25_000 * scale), False, 1.03),
        _Work("connect, ask, close", lambda: load.connection_ns(3_000 * scale), False),
    ]
    missing: dict[str, str] = {}
    off: dict[str, list[float]] = {}
    on: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab:
        host = lab.host("load")
        load.many_ports(host)
        for _ in range(rounds):
            for work in works:
                off.setdefault(work.what, []).append(host.call(work.run))
            with _recorder():
                for work in works:
                    on.setdefault(("droptape", work.what), []).append(host.call(work.run))
            _watched_by_peers(host, works[0], on, missing)
    rows = [_row("droptape", work, on["droptape", work.what], off[work.what]) for work in works]
    for name in _PEERS:
        values = on.get((name, works[0].what))
        if values is not None:
            rows.append(_row(name, works[0], values, off[works[0].what]))
        else:
            rows.append(Row(f"slowdown: {works[0].what}, {name}", "-", note=missing[name]))
    return rows


def _watched_by_peers(
    host: Host,
    work: _Work,
    on: dict[tuple[str, str], list[float]],
    missing: dict[str, str],
) -> None:
    for name, watcher in _PEERS.items():
        if name in missing:
            continue
        try:
            with watcher():
                on.setdefault((name, work.what), []).append(host.call(work.run))
        except peers.PeerError as exc:
            missing[name] = str(exc)


def _row(watcher: str, work: _Work, on: list[float], off: list[float]) -> Row:
    ratio = Ratio.of(on, off)
    middle = sorted(on)[len(on) // 2], sorted(off)[len(off) // 2]
    return Row(
        f"slowdown: {work.what}, {watcher}",
        f"{middle[0] / 1000:.2f} µs",
        f"unwatched {middle[1] / 1000:.2f} µs",
        ratio,
        f"at most {work.most}" if work.most else "",
        ratio.middle <= work.most if work.most else None,
    )


if __name__ == "__main__":
    command.main({"slowdown": measure}, __doc__)
