"""What the verbs cost on datasets of many hosts: time, bytes read, memory, and how they grow.

Needs no root. With --spark two questions on Spark instead: a master and two workers on loopback, a
processor each.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.asking import DIAGNOSE, FLOOR, SORT, VERBS, Cost, ask, ask_spark
from bench.command import machine
from bench.hosts import RECORDINGS, make
from droptape.analyze import archive
from droptape.analyze.dataset.catalog import read_catalog
from droptape.analyze.dataset.store import open_store

_TIMES = 40
_LIMITS = ("", "512MB", "256MB", "128MB", "64MB", "32MB")
_PLANNED_HOSTS = 10_000
_PLANNED_EVENTS = 86_400
_ON_SPARK = ("query, drops by reason", "top --by host,reason")
_SPARK_SETTINGS = {"spark.executor.memory": "1500m"}


@dataclass(frozen=True, slots=True)
class _Data:
    """A dataset: where, how many hosts, and what its Parquet files hold."""

    path: Path
    hosts: int
    files: int
    bytes: int
    rows: int
    events: int

    def __str__(self) -> str:
        return (
            f"{self.hosts:,} hosts: {self.events / 1e6:.2f} million events, {self.rows / 1e6:.2f} "
            f"million rows, {self.files:,} files of {self.bytes / 1e6:.1f} MB"
        )


def _made(folder: Path, hosts: int, times: int = 1) -> _Data:
    path = make(folder, hosts, times)
    entries = read_catalog(open_store(str(path))).entries
    files = [file for entry in entries for file in entry.files]
    kinds = {name for e in entries for name, s in e.tables.items() if s.table.role == "events"}
    events = sum(f.rows for f in files if f.table in kinds)
    return _Data(
        path, hosts, len(files), sum(f.bytes for f in files), sum(f.rows for f in files), events
    )


def _archiving(folder: Path) -> str:
    began = time.perf_counter()
    done = archive([str(path) for path in RECORDINGS.iterdir()], str(folder / "archived"))
    took = time.perf_counter() - began
    stored = sum(f.stat().st_size for r in RECORDINGS.iterdir() for f in r.rglob("*.parquet"))
    return (
        f"archive: {took / len(done.added):.2f} s a recording of "
        f"{done.rows // len(done.added):,} rows; its files are {done.bytes / stored:.2f} times "
        "those of the recording"
    )


def _verbs(data: list[_Data], rounds: int) -> dict[str, list[Cost]]:
    """Print a line for each verb, with a value for each number of hosts."""
    print("\n| question | seconds | growth | times the floor | MB read | peak memory, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    costs: dict[str, list[Cost]] = {}
    for verb in (FLOOR, *VERBS):
        found = costs[verb] = [ask(verb, one.path, rounds) for one in data]
        seconds = [cost.seconds for cost in found]
        floor = [s / at.seconds for s, at in zip(seconds, costs[FLOOR], strict=True)]
        cells = (
            _joined(seconds, 2), _joined(_growth(seconds), 1), _joined(floor, 1),
            _joined([cost.read / 1e6 for cost in found], 1),
            _joined([cost.peak / 1e6 for cost in found], 0),
        )  # fmt: skip
        print(f"| {verb} | {' | '.join(cells)} |", flush=True)
    return costs


def _diagnosing(data: list[_Data]) -> None:
    """Print what `diagnose` costs, which asks host by host: of few hosts that is enough."""
    few, more = (ask(DIAGNOSE, one.path, 1).seconds for one in data)
    each = (more - few) / (data[1].hosts - data[0].hosts)
    print(
        f"\n{DIAGNOSE}: {few:.1f} s for {data[0].hosts:,}, {more:.1f} s for {data[1].hosts:,}, "
        f"so {each:.2f} s a host, {each * _PLANNED_HOSTS / 60:.0f} minutes for {_PLANNED_HOSTS:,}",
        flush=True,
    )


def _memory(data: _Data) -> None:
    """Print what a query that needs memory costs with less and less of it."""
    print(f"\n{SORT}, {data.hosts:,} hosts, by limit of memory")
    print("| limit | seconds | times without limit | MB spilled | peak memory, MB |")
    print("|---|---|---|---|---|", flush=True)
    first = 0.0
    for limit in _LIMITS:
        cost = ask(SORT, data.path, 1, **({"memory_limit": limit} if limit else {}))
        first = first or cost.seconds
        if cost.problem:
            print(f"| {limit} | {cost.problem} | | | |")
            return
        print(
            f"| {limit or 'none'} | {cost.seconds:.2f} | {cost.seconds / first:.1f} | "
            f"{cost.written / 1e6:.0f} | {cost.peak / 1e6:.0f} |",
            flush=True,
        )


def _spark(folder: Path, data: list[_Data]) -> None:
    """Print a few questions on Spark, as ratios to DuckDB beside it."""
    from unit.analyze.cluster import spark_cluster

    print("\n| question | Spark, seconds | growth | DuckDB, seconds | growth | ratio |")
    print("|---|---|---|---|---|---|", flush=True)
    with spark_cluster(folder / "spark", _SPARK_SETTINGS) as master:
        conf = folder / "spark" / "conf"
        for verb in _ON_SPARK:
            theirs = [ask_spark(verb, one.path, master, conf).seconds for one in data]
            ours = [ask(verb, one.path, 1).seconds for one in data]
            ratio = [spark / duck for spark, duck in zip(theirs, ours, strict=True)]
            print(
                f"| {verb} | {_joined(theirs, 1)} | {_joined(_growth(theirs), 1)} | "
                f"{_joined(ours, 2)} | {_joined(_growth(ours), 1)} | {_joined(ratio, 1)} |",
                flush=True,
            )


def _plan(data: list[_Data], costs: dict[str, list[Cost]], long: _Data, rounds: int) -> None:
    """Print what a host and a million events cost, and a day of many hosts from these."""
    base = next(n for n, one in enumerate(data) if one.hosts == long.hosts)
    few, many = data[base], data[-1]
    rows = long.events - few.events
    planned = _PLANNED_HOSTS * _PLANNED_EVENTS
    print(f"\nWith {_TIMES} times the rows: {long}")
    least, most = (planned * one.bytes / one.events / 1e9 for one in (long, few))
    print(
        f"A day of {_PLANNED_HOSTS:,} hosts with {_PLANNED_EVENTS:,} events each: "
        f"{planned / 1e6:,.0f} million events; {least:,.0f} GB when rows repeat as these do, "
        f"{most:,.0f} GB in files as small as those of one recording"
    )
    print("| question | seconds | ms a host | s a million events | that day, minutes |")
    print("|---|---|---|---|---|", flush=True)
    for verb in (FLOOR, *VERBS):
        if verb.startswith(("diagnose", "query, one")):
            continue
        took = ask(verb, long.path, rounds).seconds
        per_event = max(took - costs[verb][base].seconds, 0) / rows
        grown = costs[verb][-1].seconds - costs[verb][base].seconds
        grown -= per_event * (many.events - few.events)
        per_host = max(grown, 0) / (many.hosts - few.hosts)
        day = _PLANNED_HOSTS * per_host + planned * per_event
        print(
            f"| {verb} | {took:.2f} | {per_host * 1e3:.2f} | {per_event * 1e6:.3f} | "
            f"{day / 60:.1f} |",
            flush=True,
        )


def _growth(values: list[float]) -> list[float]:
    return [after / before for before, after in itertools.pairwise(values)]


def _joined(values: list[float], digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in values)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", default="10,100,1000", help="numbers of hosts, with commas")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--spark", action="store_true", help="Spark instead")
    args = parser.parse_args()
    sizes = [int(text) for text in args.hosts.split(",")]
    if len(sizes) < 2 or sizes != sorted(set(sizes)) or sizes[0] < 5:
        sys.exit("--hosts: at least two numbers from 5 on, the smallest first")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="droptape-fleet-") as name:
        folder = Path(name)
        data = [_made(folder / str(hosts), hosts) for hosts in sizes]
        print(*data, sep="\n", flush=True)
        if args.spark:
            _spark(folder, data)
        else:
            print(_archiving(folder), flush=True)
            costs = _verbs(data, args.rounds)
            _plan(data, costs, _made(folder / "long", sizes[-2], _TIMES), args.rounds)
            _diagnosing(data[:2])
            _memory(data[-1])
    print(f"\n{machine()}, {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
