"""The blocks of the README in their engines: each gives the answer of droptape."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from droptape.analyze import archive, open_recording
from unit.analyze.fleet import make_fleet
from unit.analyze.make import START, Maker

README = Path(__file__).parents[3] / "README.md"
DAY = "2026-11-21"
AT_NOON = 1_795_262_400
"""Seconds since 1970, that day."""
QUESTION = """
SELECT host, reason, function, sum(weight)::BIGINT AS dropped FROM drops
WHERE NOT benign AND date = $day GROUP BY ALL ORDER BY dropped DESC, host, reason, function
"""
Rows = list[tuple[Any, ...]]


def block(kind: str, data: Path) -> str:
    """Return the block of an engine, for the dataset in `data`."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = (str(block) for block in blocks if "/srv/fleet" in block)
    assert DAY in found
    return found.replace("/srv/fleet", str(data))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset where each condition of the question leaves out something of the first rows."""
    folder = tmp_path_factory.mktemp("readers")
    other = Maker(folder / "other", host="web-9")
    that_day = AT_NOON - START // 10**9
    other.seal("drops", [
        {"at": 1, "reason": "NO_SOCKET", "weight": 1_000_000},
        {"at": that_day, "reason": "NO_SOCKET", "weight": 900_000, "benign": 1},
        {"at": that_day, "reason": "NETFILTER_DROP", "weight": 800_000},
    ])  # fmt: skip
    other.finish(ended_ns=(AT_NOON + 1) * 10**9)
    recordings = [*make_fleet(folder / "recordings"), other.path]
    archive([str(path) for path in recordings], str(folder / "data"))
    return folder / "data"


def by_duckdb(data: Path) -> Rows:
    return duckdb.connect().sql(block("sql duckdb", data)).fetchall()


def by_polars(data: Path) -> Rows:
    names: dict[str, Any] = {}
    exec(block("python", data), names)
    rows: Rows = names["answer"].rows()
    return rows


def by_clickhouse(data: Path) -> Rows:
    chdb = pytest.importorskip("chdb", reason="ClickHouse is not installed: make fleet")
    text = str(chdb.query(block("sql clickhouse", data), "JSONCompactEachRow"))
    rows = [json.loads(line) for line in text.splitlines()]
    return [(*names, int(dropped)) for *names, dropped in rows]


def by_spark(data: Path, master: str) -> Rows:
    from droptape.analyze.spark.session import start

    session = start(master).newSession()
    return [tuple(row) for row in session.sql(block("sql spark", data)).collect()]


@pytest.fixture(scope="module")
def expected(data: Path) -> Rows:
    with open_recording(data) as rec:
        rows = rec.sql(QUESTION.replace("$day", f"'{DAY}'")).fetchall()
    assert rows[0] == ("web-9", "NETFILTER_DROP", None, 800_000)
    assert len({row[-1] for row in rows[:6]}) > 3
    return rows[:5]


@pytest.mark.parametrize("ask", [by_duckdb, by_polars, by_clickhouse])
def test_plain_readers_give_the_answer_of_droptape(
    ask: Callable[[Path], Rows], data: Path, expected: Rows
) -> None:
    assert ask(data) == expected


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_spark_gives_the_answer_of_droptape(data: Path, expected: Rows, spark_master: str) -> None:
    assert by_spark(data, spark_master) == expected
