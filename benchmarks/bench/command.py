"""The command line that all benchmarks have."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from bench.table import Measure, Options, Part, as_json, as_markdown, as_text, perform


def machine() -> str:
    """Describe this machine and the moment in one line."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, Linux {platform.release()}, "
        f"{os.cpu_count()} x {model}, {memory:.0f} GB, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )


def main(parts: Mapping[str, Measure], description: str, argv: Sequence[str] | None = None) -> None:
    """Measure `parts` and print the table; exit with 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "--events", type=int, default=0, metavar="N",
        help="events to analyse (default: 50 million, less where the disk has no room for them)",
    )  # fmt: skip
    parser.add_argument(
        "--soak", type=float, default=0, metavar="SECONDS", help="length of the soak (default: 20)"
    )
    parser.add_argument(
        "--crashes", type=float, default=120, metavar="SECONDS",
        help="go on killing recorders for so long, 200 at most (default: 120)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if os.geteuid() != 0:
        parser.error("probes, namespaces and kernel statistics need root")
    options = Options(
        quick=args.quick,
        events=args.events or (500_000 if args.quick else 0),
        soak_s=args.soak or (6 if args.quick else 20),
        crashes_s=args.crashes,
    )
    done: list[Part] = []
    for name, measure in parts.items():
        print(f"{name} …", end=" ", file=sys.stderr, flush=True)
        part = perform(name, measure, options)
        print(part.problem or f"{part.seconds:.0f} s", file=sys.stderr, flush=True)
        done.append(part)
    if args.json:
        args.json.write_text(as_json(done, machine()))
    print(as_markdown(done) if args.markdown else as_text(done))
    print(("\n" if args.markdown else "") + machine())
    sys.exit(any(part.problem for part in done))
