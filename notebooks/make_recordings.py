"""Make the recordings that the notebooks ask: `make notebook-recordings`, as root.

Real kernel events between network namespaces of its own, recorded by droptape-record like any
others, and then reduced to those namespaces (`_keep.py`).

- ``incident``: half a minute of a shop in several kinds of trouble;
- ``before``, ``after``: the same load on a server with a short and with a long accept queue.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _keep import keep
from _stage import Shop, Units, load, open_shop, take_name

from droptape.analyze import open_recording
from lab import Lab, trouble
from lab.recorder import PROGRAMS, Recorder

RECORDINGS = Path(__file__).parent / "recordings"
ATTEMPTS = 5
EVENTS = "drops,listen,resets,retransmits,connections"


def incident(shop: Shop, units: Units, mark: Callable[[str], None]) -> None:
    """Make trouble of every kind that the tour shows, one after the other."""
    server, mobile = shop.server, shop.clients["mobile"]
    load(shop, units, backlog=8, pause=0.05, sizes=(30, 12, 2), count=6)
    mark("firewall rule deployed")
    with units.starting("backup.service"):
        trouble.lossy_transfer(server, mobile, shop.address, size=3_000_000, comm="backup")
    mark("firewall rule removed")
    trouble.closed_tcp_port(server, shop.clients["office"], shop.address, count=25)
    with units.starting("telemetry.service"):
        trouble.slow_udp_reader(
            server, mobile, shop.address6, count=300, pause=0.004, comm="telemetry"
        )
    with trouble.without_window_scaling(server):
        trouble.lossy_transfer(
            server, shop.clients["partner"], shop.address, size=600_000, comm="old-appliance"
        )
    trouble.tail_loss(server, mobile, shop.address, lost=5)
    for _ in range(3):
        trouble.reset_connection(server, mobile, shop.address)
    trouble.reset_connection(server, mobile, shop.address, cause="unread")
    trouble.slow_tcp_reader(server, mobile, shop.address)


def _load_test(backlog: int) -> Callable[[Shop, Units, Callable[[str], None]], None]:
    def run(shop: Shop, units: Units, _mark: Callable[[str], None]) -> None:
        asked, answered = load(
            shop, units, backlog=backlog, pause=0.002, sizes=(40, 20, 10), count=16
        )
        print(f"  backlog {backlog}: {answered} of {asked} requests answered within 5 s")

    return run


STORIES = {"incident": incident, "before": _load_test(16), "after": _load_test(256)}


def record(name: str, folder: Path) -> bool:
    """Record one story into `folder` and keep its part of it under `RECORDINGS`.

    Returns whether the kernel's own counters agree with it.
    """
    with Lab() as lab, Units() as units:
        shop = open_shop(lab)

        def mark(text: str) -> None:
            time.sleep(0.3)
            subprocess.run([PROGRAMS / "droptape-record", "--mark", text, folder], check=True)
            time.sleep(0.3)

        with Recorder(folder, "--events", EVENTS) as recorder:
            time.sleep(1.2)
            STORIES[name](shop, units, mark)
            time.sleep(1.2)
            if code := recorder.stop():
                raise SystemExit(f"droptape-record ended with code {code}: {recorder.output}")
        namespaces = [host.inum for host in (shop.server, *shop.clients.values())]
    target = RECORDINGS / name
    shutil.rmtree(target, ignore_errors=True)
    keep(folder, target, namespaces)
    with open_recording(target) as rec:
        return rec.verify().balanced


def main() -> None:
    """Make the recordings named on the command line, or all."""
    take_name("web-1")
    with tempfile.TemporaryDirectory() as temp:
        for name in sys.argv[1:] or STORIES:
            for attempt in range(1, ATTEMPTS + 1):
                print(f"recording {name}")
                if record(name, Path(temp) / f"{name}-{attempt}"):
                    break
                print("  its books do not balance (droptape verify)")
            else:
                raise SystemExit(f"{name} did not balance in {ATTEMPTS} attempts")


if __name__ == "__main__":
    main()
