"""The same dataset on DuckDB and on a Spark cluster: the same answers, row for row."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from droptape.analyze import QueryError, Recording, archive, diff, open_recording
from unit.analyze.fleet import HOSTS, make_fleet

pytest.importorskip("pyspark", reason="Spark is not installed: make fleet")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PART = {"start": "2026-11-21T09:30:30Z", "end": "2026-11-21T09:48:30Z"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spark-data")
    done = archive([str(path) for path in make_fleet(folder / "recordings")], str(folder / "data"))
    assert len(done.added) == len(HOSTS)
    return folder / "data"


@pytest.fixture(scope="module")
def duck(data: Path) -> Iterator[Recording]:
    with open_recording(data) as rec:
        yield rec


@pytest.fixture(scope="module")
def spark(data: Path, spark_master: str) -> Iterator[Recording]:
    with open_recording(data, engine="spark", master=spark_master) as rec:
        yield rec


def rows(rec: Recording, query: str) -> list[dict[str, Any]]:
    return list(rec.sql(query).to_arrow_table().to_pylist())


VERBS: dict[str, Callable[[Recording], Any]] = {
    "top": lambda rec: rec.top(limit=1000).fetchall(),
    "top-host": lambda rec: rec.top(["host", "reason", "function", "port"], limit=1000).fetchall(),
    "top-address": lambda rec: rec.top(["saddr", "owner", "state"], limit=50).fetchall(),
    "top-table": lambda rec: rec.top(["cause", "location"], table="totals", limit=1000).fetchall(),
    "timeline": lambda rec: rec.timeline(bucket="1s").fetchall(),
    "timeline-by": lambda rec: rec.timeline(bucket="auto", by="saddr", table="drops").fetchall(),
    "timeline-benign": lambda rec: rec.timeline(by="host", include_benign=True).fetchall(),
    "summary": lambda rec: rec.summary(**PART).to_json(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_answer_the_same(verb: str, duck: Recording, spark: Recording) -> None:
    expected = VERBS[verb](duck)
    assert len(expected) > 3
    assert VERBS[verb](spark) == expected


QUERIES = {
    "group-by": "SELECT host, reason, function, count(*) AS n, sum(weight) AS weight FROM drops "
    "GROUP BY ALL ORDER BY ALL",
    "buckets": "SELECT epoch_ns(ts) // 1000000000 AS second, kind, sum(amount) AS n FROM events "
    "GROUP BY ALL ORDER BY ALL",
    "minutes": "SELECT date_trunc('minute', ts) AS minute, count(*) AS n FROM retransmits "
    "GROUP BY ALL ORDER BY ALL",
    "window": "SELECT host, kind, n, rank() OVER (PARTITION BY host ORDER BY n DESC, kind) "
    "AS place FROM (SELECT host, kind, count(*) AS n FROM events GROUP BY host, kind) ORDER BY ALL",
    "qualify": "SELECT host, saddr, count(*) AS n FROM events GROUP BY host, saddr "
    "QUALIFY row_number() OVER (PARTITION BY host ORDER BY n DESC, saddr) <= 3 ORDER BY ALL",
    "full-join": "SELECT coalesce(a.reason, b.reason) AS reason, a.n AS one, b.n AS other "
    "FROM (SELECT reason, count(*) AS n FROM drops WHERE host = 'web-1' GROUP BY reason) AS a "
    "FULL JOIN (SELECT reason, count(*) AS n FROM drops WHERE host = 'web-2' GROUP BY reason) AS b "
    "ON a.reason = b.reason ORDER BY reason",
    "histogram": "SELECT floor(log2(duration_us + 1)) AS bucket, count(*) AS n FROM connections "
    "WHERE duration_us IS NOT NULL GROUP BY bucket ORDER BY bucket",
    "before": "SELECT d.host, count(*) AS n FROM drops AS d JOIN retransmits AS r "
    "ON d.host = r.host AND d.saddr = r.saddr AND d.sport = r.sport AND r.ts > d.ts "
    "AND epoch_ns(r.ts) - epoch_ns(d.ts) < 1000000000 GROUP BY d.host ORDER BY d.host",
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_of_users_answer_the_same(name: str, duck: Recording, spark: Recording) -> None:
    expected = rows(duck, QUERIES[name])
    assert expected
    assert rows(spark, QUERIES[name]) == expected


def test_diagnosis_is_the_same(data: Path, spark_master: str) -> None:
    chosen: Any = {"hosts": ["web-*"]}
    with open_recording(data, **chosen) as one:
        expected = one.diagnose().to_json()
    with open_recording(data, engine="spark", master=spark_master, **chosen) as two:
        found = two.diagnose().to_json()
    assert len(expected["findings"]) > 10
    for ours, theirs in zip(expected["findings"], found["findings"], strict=True):
        assert theirs == ours
    assert json.dumps(found) == json.dumps(expected)


def test_diff_of_two_groups_of_hosts_is_the_same(data: Path, spark_master: str) -> None:
    found = []
    for more in ({}, {"engine": "spark", "master": spark_master}):
        asked: Any = more
        with (
            open_recording(data, hosts=["web-*"], **asked) as one,
            open_recording(data, hosts=["db-*"], **asked) as two,
        ):
            found.append(diff(one, two, by=["reason", "function"]).to_json())
    assert len(found[0]["changes"]) > 5
    assert found[1] == found[0]


# --- what Spark does not do ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("DELETE FROM drops", "DELETE is not allowed"),
        ("SELECT nothing FROM drops", "nothing"),
        ("SELECT * FROM drops ASOF JOIN retransmits USING (host, ts)", "Spark has no ASOF JOIN"),
        ("SELECT count(*) FROM range(5)", "tables of the dataset only"),
    ],
)
def test_what_spark_cannot_answer_is_one_line(spark: Recording, query: str, text: str) -> None:
    with pytest.raises(QueryError, match=text) as caught:
        spark.sql(query).fetchall()
    assert "\n" not in str(caught.value)


def test_files_beside_the_dataset_are_not_read(spark: Recording, data: Path) -> None:
    file = next(data.glob("drops/*/*/*.parquet"))
    with pytest.raises(QueryError):
        spark.sql(f"SELECT count(*) FROM read_parquet('{file}')").fetchall()


def test_it_makes_no_folder_where_the_user_is(spark: Recording) -> None:
    from pyspark.sql import SparkSession

    assert rows(spark, "SELECT count(*) AS n FROM drops")
    session = SparkSession.getActiveSession()
    assert session is not None
    folder = Path(urlsplit(session.conf.get("spark.sql.warehouse.dir") or "").path)
    assert folder.parent == Path(tempfile.gettempdir())


def test_a_recording_is_not_for_spark(tmp_path: Path, spark_master: str) -> None:
    (path, *_) = make_fleet(tmp_path)
    with pytest.raises(QueryError, match="Spark is asked about a dataset"):
        open_recording(path, engine="spark", master=spark_master)


def test_no_master_is_one_line_at_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"spark://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(QueryError, match=f"no Spark master answers at {address}"):
        open_recording(data, engine="spark", master=address)
