"""Asking a dataset one thing, in a process of its own, and what that took."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from droptape.analyze import DroptapeError, Recording, diff, open_recording

FLOOR = "bare DuckDB, drops by reason"
SORT = "distinct events"
DIAGNOSE = "diagnose, all hosts"
_SQL = "SELECT reason, function, sum(weight) AS n FROM drops GROUP BY ALL ORDER BY n DESC, reason"
_DISTINCT = (
    "SELECT count(*) FROM (SELECT DISTINCT host, saddr, daddr, sport, dport, ts FROM events)"
)
_PART = {"start": "2026-11-21T12:00:00Z", "end": "2026-11-21T15:00:00Z"}
_ONE = {"hosts": ["host-00004"]}
Ask = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one question took: seconds, bytes read and written, and the peak of memory."""

    seconds: float
    read: float = 0
    written: float = 0
    peak: float = 0
    problem: str = ""


def _asked(ask: Callable[[Recording], Any], **chosen: Any) -> Ask:
    def run(path: str, **more: Any) -> None:
        with open_recording(path, **chosen, **more) as rec:
            ask(rec)

    return run


def _diff(path: str, **more: Any) -> None:
    with (
        open_recording(path, hosts=["host-*[02468]"], **more) as even,
        open_recording(path, hosts=["host-*[13579]"], **more) as odd,
    ):
        diff(even, odd)


def _floor(path: str, **more: Any) -> None:
    del more
    files = f"read_parquet('{path}/drops/*/*/*.parquet', hive_partitioning = true)"
    duckdb.connect().sql(_SQL.replace("FROM drops", f"FROM {files}")).fetchall()


VERBS: dict[str, Ask] = {
    "query, drops by reason": _asked(lambda rec: rec.sql(_SQL).fetchall()),
    "query, an eighth of the day": _asked(lambda rec: rec.sql(_SQL).fetchall(), **_PART),
    "query, one host": _asked(lambda rec: rec.sql(_SQL).fetchall(), **_ONE),
    "top --by host,reason": _asked(lambda rec: rec.top(["host", "reason"]).fetchall()),
    "timeline --bucket 10m": _asked(lambda rec: rec.timeline(bucket="10m").fetchall()),
    "summary": _asked(lambda rec: rec.summary()),
    "diff, half with half": _diff,
    "diagnose, one host": _asked(lambda rec: rec.diagnose(), **_ONE),
}
_ALL: dict[str, Ask] = {
    **VERBS,
    FLOOR: _floor,
    SORT: _asked(lambda rec: rec.sql(_DISTINCT).fetchall()),
    DIAGNOSE: _asked(lambda rec: rec.diagnose()),
}


def ask(verb: str, path: Path, rounds: int, **more: Any) -> Cost:
    """Ask in a new process, `rounds` times; return the medians."""
    found = [_run([verb, str(path)], more) for _ in range(rounds)]
    if found[0].problem:
        return found[0]
    return Cost(*(median(values) for values in zip(*map(_numbers, found), strict=True)))


def ask_spark(verb: str, path: Path, master: str, conf: Path) -> Cost:
    """Ask in a new process, in a session of Spark that has answered one question before."""
    environment = {"SPARK_CONF_DIR": str(conf), "SPARK_LOCAL_IP": "127.0.0.1"}
    return _run([verb, str(path)], {"engine": "spark", "master": master}, environment)


def _numbers(cost: Cost) -> tuple[float, float, float, float]:
    return cost.seconds, cost.read, cost.written, cost.peak


def _run(
    arguments: list[str], more: dict[str, Any], environment: Mapping[str, str] | None = None
) -> Cost:
    command = [sys.executable, __file__, json.dumps(more), *arguments]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(f"{arguments} failed: {run.stderr[-2000:]}")
    return Cost(**json.loads(run.stdout.splitlines()[-1]))


def _measured(verb: str, path: str, more: dict[str, Any]) -> Cost:
    before, began, problem = _moved(), time.perf_counter(), ""
    try:
        _ALL[verb](path, **more)
    except (DroptapeError, duckdb.Error) as exc:
        problem = str(exc).splitlines()[0]
    took, after = time.perf_counter() - began, _moved()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cost(took, after[0] - before[0], after[1] - before[1], peak, problem)


def _moved() -> tuple[int, int]:
    """Return the bytes this process read and wrote by system calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = {key: int(value) for key, _, value in (line.partition(": ") for line in lines)}
    return counts["rchar"], counts["wchar"]


def _child() -> None:
    more, verb, path = sys.argv[1:]
    settings = json.loads(more)
    # Nobody waits for imports or for the start of Spark at every question.
    _ALL["query, one host"](path, **settings)
    print(json.dumps(asdict(_measured(verb, path, settings))))


if __name__ == "__main__":
    _child()
