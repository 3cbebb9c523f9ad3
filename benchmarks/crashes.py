"""kill -9 at random moments under load, during sealing and rotation above all."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from bench import command
from bench.table import Options, Row
from lab import Lab
from lab.crash import Crash, busy, crash

_KILLS = 200


def measure(options: Options) -> list[Row]:
    """Kill recorders one after the other, as many as there is time for."""
    kills, end = options.pick(_KILLS, 10), time.monotonic() + options.crashes_s
    dice = random.Random()
    crashes: list[Crash] = []
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name, Lab() as lab:
        task = busy(lab.host("crashes"))
        while len(crashes) < kills and time.monotonic() < end:
            crashes.append(crash(Path(name) / "rec", dice))
        task.stop(30)
    harmless = sum(one.harmless for one in crashes)
    rows = sum(one.recovered for one in crashes)
    return [
        Row(
            f"kill -9 at {len(crashes)} random moments: {rows:,} rows",
            f"{harmless} harmless: nothing lost, doubled or damaged",
            goal="all",
            met=harmless == len(crashes),
            note="; ".join(str(one) for one in crashes if not one.harmless),
        )
    ]


if __name__ == "__main__":
    command.main({"crashes": measure}, __doc__)
