"""Events at the highest rate that this machine can make: what is lost, and whether it is known.

Senders to a closed port, to a full UDP socket and of SYNs to a full listener, and connects to a
closed port run at once. What the recorder counted is compared with the counters of the network
namespace, which know nothing of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import command, load, peers
from bench.table import Options, Row
from droptape.analyze import open_recording
from lab import Host, Lab
from lab.recorder import Recorder

_UDP_DROPS = ("NO_SOCKET", "SOCKET_RCVBUFF")


@dataclass(frozen=True, slots=True)
class _Truth:
    """What the namespace counted meanwhile, and how long that took."""

    seconds: float
    udp: int
    refused: int


@contextmanager
def _storm(host: Host, *, only_udp: bool) -> Iterator[None]:
    full = host.spawn(load.never_read).ready()
    busy = host.spawn(load.never_accept).ready()
    tasks = [
        host.spawn(load.send_until_stopped),
        host.spawn(load.send_until_stopped, full),
    ]
    if not only_udp:
        tasks += [
            host.spawn(load.flood_syns_until_stopped, busy),
            host.spawn(load.connect_until_stopped),
        ]
    for task in tasks:
        task.ready()
    try:
        yield
    finally:
        for task in tasks:
            task.stop(30)


def _make_drops(host: Host, seconds: float, *, only_udp: bool = False) -> _Truth:
    start = time.monotonic()
    with host.counting() as moved:
        with _storm(host, only_udp=only_udp):
            time.sleep(seconds)
        time.sleep(0.5)
    udp = sum(moved.get(f"Udp.{name}", 0) for name in ("NoPorts", "RcvbufErrors"))
    return _Truth(time.monotonic() - start - 0.5, udp, moved.get("TcpExt.ListenDrops", 0))


def measure(options: Options) -> list[Row]:
    """Record the same storm with each program in turn."""
    seconds = options.pick(60, 4)
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name:
        folder = Path(name)
        with Lab() as lab:
            host = lab.host("storm")
            with Recorder(folder / "rec", timeout=60) as recorder:
                truth = _make_drops(host, seconds)
                recorder.stop(timeout=120)
            space = host.inum
        return [
            *_ours(folder / "rec", truth, space),
            _peer(
                "perf record",
                seconds,
                lambda: peers.perf_record(folder / "perf.data"),
                lambda _: peers.perf_samples(folder / "perf.data"),
            ),
            _peer("bpftrace, a line per event", seconds, peers.bpftrace_lines, _lines),
        ]


def _ours(folder: Path, truth: _Truth, space: int) -> list[Row]:
    with open_recording(folder) as rec:
        kinds = rec.summary().kinds
        ((udp,),) = rec.sql(
            "SELECT coalesce(sum(events), 0) FROM totals WHERE kind = 'drops' AND "
            "protocol = 'UDP' AND netns = ? AND cause IN (?, ?)",
            [space, *_UDP_DROPS],
        ).fetchall()
        ((refused,),) = rec.sql(
            "SELECT coalesce(sum(events), 0) FROM totals WHERE kind = 'listen' AND netns = ?",
            [space],
        ).fetchall()
        told = {
            cause: int(n)
            for cause, n in rec.sql(
                "SELECT cause, sum(events) FROM losses GROUP BY cause"
            ).fetchall()
        }
        ((rows,),) = rec.sql(
            "SELECT sum(n) FROM ("
            + " UNION ALL ".join(f"SELECT count(*) AS n FROM {kind['kind']}" for kind in kinds)
            + ")"
        ).fetchall()
    events = sum(kind["events"] for kind in kinds)
    sampled = told.pop("sampled", 0)
    lost = sum(told.values())
    unaccounted = sum(kind["unaccounted"] for kind in kinds)
    rate = f"{events / truth.seconds:,.0f} events/s for {truth.seconds:.0f} s"
    return [
        Row(
            f"overload: {rate}, rows lost",
            f"{lost:,} of {events:,} ({100 * lost / max(events, 1):.2f} %)",
            f"sampled: {rows:,} rows stand for {events - sampled - lost:,}, {sampled:,} for none",
            goal="0, or sampled",
            met=lost == 0,
        ),
        Row(
            "overload: unaccounted, neither a row nor said to be lost",
            f"{unaccounted:,}",
            goal="0",
            met=unaccounted == 0,
        ),
        Row(
            "overload: UDP drops counted",
            f"{udp:,}",
            f"NoPorts and RcvbufErrors {truth.udp:,}",
            goal="equal",
            met=int(udp) == truth.udp,
        ),
        Row(
            "overload: refused connections counted",
            f"{refused:,}",
            f"ListenDrops {truth.refused:,}",
            goal="equal",
            met=int(refused) == truth.refused,
        ),
    ]


def _peer(
    name: str,
    seconds: float,
    watcher: Callable[[], AbstractContextManager[peers.Peer]],
    seen: Callable[[peers.Peer], int],
) -> Row:
    """Have a peer watch datagrams only: then every event is one that the namespace counts."""
    what = f"overload: {name}, UDP drops not seen"
    try:
        with Lab() as lab:
            host = lab.host("storm")
            with watcher() as peer:
                truth = _make_drops(host, seconds, only_udp=True)
                peer.stop()
                count = seen(peer)
    except peers.PeerError as exc:
        return Row(what, "-", note=str(exc))
    missed = max(truth.udp - count, 0)
    return Row(what, f"{missed:,} of {truth.udp:,} ({100 * missed / max(truth.udp, 1):.1f} %)")


def _lines(peer: peers.Peer) -> int:
    with peer.output.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


if __name__ == "__main__":
    command.main({"overload": measure}, __doc__)
