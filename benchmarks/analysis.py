"""Usual questions, asked of a recording with millions of events and of the same as text.

Real drops are recorded once and then repeated, moved in time and with other addresses, through the
recorder's own store. The text has a line per event as ``droptape-record --live`` prints them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import command
from bench.capture import drops, new_store, trouble, wall_offset_ns
from bench.lines import write_lines
from bench.table import Options, Ratio, Row
from droptape.analyze import Recording, open_recording
from droptape.format.decode import Records
from droptape.format.schema import Table
from lab import Lab

_SEED_ROWS = 200_000
_EVENTS, _FEWER = 50_000_000, 5_000_000
_BYTES = 150  # of an event: its line, its row, and what is not sealed yet
_ADDRESS = "127.1.0.59"  # one that `load.send_mixed` picks: what is not there is found fastest


@dataclass(frozen=True, slots=True)
class _Question:
    what: str
    ours: Callable[[Recording], object]
    awk: str
    usual: bool = True


_QUESTIONS = (
    _Question(
        "summary",
        lambda rec: rec.summary(),
        # Causes, owners and the curve: what `summary` tells, in one pass.
        "{c[$3 $4]++; o[$9]++; s[substr($1,2,8)]++} END {for (k in c) print k, c[k];"
        " for (k in o) print k, o[k]; for (k in s) print k, s[k]}",
    ),
    _Question(
        "top by reason and function",
        lambda rec: rec.top(["reason", "function"]).fetchall(),
        "{c[$3 $4]++} END {for (k in c) print k, c[k]}",
    ),
    _Question(
        "events per second by reason",
        lambda rec: rec.timeline(bucket="1s", by="reason").fetchall(),
        "{c[substr($1,2,8) $3]++} END {for (k in c) print k, c[k]}",
    ),
    _Question(
        "all drops from one address",
        lambda rec: rec.sql(
            "SELECT reason, dport, count(*) FROM drops WHERE saddr = ? GROUP BY ALL", [_ADDRESS]
        ).fetchall(),
        f'index($5, "{_ADDRESS}:") == 1 {{c[$3 $7]++}} END {{for (k in c) print k, c[k]}}',
    ),
    # What no footer has counted: all rows are read.
    _Question(
        "any other SQL of all rows",
        lambda rec: rec.sql("SELECT reason, dport, count(*) FROM drops GROUP BY ALL").fetchall(),
        "{c[$3 $7]++} END {for (k in c) print k, c[k]}",
        usual=False,
    ),
)


def measure(options: Options) -> list[Row]:
    """Build both, then ask each question of both in turn."""
    rounds = options.pick(3, 2)
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name:
        folder, lines = Path(name) / "rec", Path(name) / "lines"
        with Lab() as lab, drops() as source:
            host = lab.host("load")
            seed = source.records(lambda: trouble(host, _SEED_ROWS // 4), _SEED_ROWS)
            table = source.table
        room = shutil.disk_usage(name).free
        events = options.events or (_EVENTS if room > _EVENTS * _BYTES else _FEWER)
        built = _build(folder, table, seed, events)
        if write_lines(folder, lines) != events:
            raise RuntimeError("the recording does not have all events")
        start = time.perf_counter()
        with open_recording(folder) as rec:
            opened = f"{time.perf_counter() - start:.3f} s"
            if any(not q.ours(rec) for q in _QUESTIONS if _ADDRESS in q.awk):
                raise RuntimeError(f"the recording has no drops from {_ADDRESS}")
            asked = [_ask(rec, lines, q, rounds, events) for q in _QUESTIONS]
    return [built, Row(f"{events:,} events: to open the recording, once", opened), *asked]


def _build(folder: Path, table: Table, seed: Records, events: int) -> Row:
    store = new_store(folder, table)
    offset, span = wall_offset_ns(), int(seed["mono_ns"].max() - seed["mono_ns"].min())
    start = time.process_time()
    for number, at in enumerate(range(0, events, len(seed))):
        part = seed[: events - at].copy()
        part["mono_ns"] += np.uint64(number * span)
        _move_sources(part, number)
        store.append(table.name, part, offset)
        store.tick()
        # The store seals in the background; do not run ahead of it without bound.
        while len(list(folder.glob("drops/*.journal"))) > 3:
            time.sleep(0.05)
            store.tick()
    store.close("the benchmark ended")
    spent = time.process_time() - start
    size = sum(path.stat().st_size for path in folder.glob("drops/*.parquet"))
    return Row(
        f"journal and seal {events:,} events, per core",
        f"{events / spent / 1e6:.2f} M/s, {size / events:.1f} bytes each",
    )


def _move_sources(records: Records, number: int) -> None:
    """Give the sources other addresses: the third byte tells the copies apart."""
    addresses = records["saddr"].copy().view("u1").reshape(-1, 16)
    addresses[:, 13] = (addresses[:, 13] + number) & 0xFF
    records["saddr"] = addresses.reshape(-1).view("V16")


def _ask(rec: Recording, lines: Path, question: _Question, rounds: int, events: int) -> Row:
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_seconds(lambda: question.ours(rec)))
        theirs.append(_seconds(lambda: _awk(question.awk, lines)))
    ratio = Ratio.of(theirs, ours)
    big = events >= _EVENTS
    middle = float(np.median(ours))
    goal = "about 1 s, at least 50 times faster" if big else "with 50 million: 50 times faster"
    return Row(
        f"{events:,} events: {question.what}",
        f"{middle:.3f} s",
        f"awk {np.median(theirs):.2f} s, times slower",
        ratio,
        goal if question.usual else "",
        (ratio.middle >= 50 and middle < 1.5) if question.usual and big else None,
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _awk(program: str, lines: Path) -> None:
    subprocess.run(["awk", program, lines], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    command.main({"analysis": measure}, __doc__)
