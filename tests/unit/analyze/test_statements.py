"""Hostile SQL: nothing is written, nothing outside the recording is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from droptape.analyze import QueryError, Recording, open_recording
from droptape.analyze.client import Client
from unit.analyze.incident import make_incident

SECRET = "do-not-read-me"

# {own}: a sealed file of the recording. {secret}: a file outside. {new}: a path to write to.
HOSTILE = [
    "COPY (SELECT 1) TO '{new}'",
    "COPY (SELECT 1) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY drops TO '{new}' (FORMAT csv)",
    "COPY drops FROM '{secret}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "/* a */ EXPLAIN /* b */ ANALYZE -- c\n COPY (SELECT 1) TO '{new}'",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{new}'",
    "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "WITH a AS (COPY (SELECT 1) TO '{new}') SELECT * FROM a",
    "WITH a AS (COPY (SELECT 1) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM a",
    "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{new}') SELECT * FROM a",
    "SELECT * FROM (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a)",
    "SELECT (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a LIMIT 1)",
    "SELECT 1 UNION ALL (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a)",
    "WITH RECURSIVE a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a",
    "DESCRIBE (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a)",
    "SUMMARIZE (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a)",
    "WITH a AS (INSERT INTO r0.d_netns VALUES (1, 'x', 1) RETURNING *) SELECT * FROM a",
    "WITH a AS (DELETE FROM r0.d_locations RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE r0.d_locations SET function = 'x' RETURNING *) SELECT * FROM a",
    "PIVOT (WITH a AS (COPY (SELECT 1) TO '{own}') SELECT * FROM a) ON Count USING sum(Count)",
    "WITH a AS (COPY (SELECT 1 AS b) TO '{own}') PIVOT a ON Count USING sum(Count)",
    "PIVOT (SELECT E'\\'' AS a, copy FROM (WITH x AS (COPY (SELECT 1) TO '{own}') FROM x)) ON a",
    "PIVOT (SELECT 1 AS a /* /* */ ' */, (WITH x AS (COPY (SELECT 1) TO '{own}') FROM x)) ON a --'",
    "PIVOT (SELECT 1 AS a, $$'$$, (WITH x AS (COPY (SELECT 1) TO '{own}') FROM x) /*'*/) ON a",
    "PIVOT (SELECT content AS a FROM read_text('{secret}')) ON a USING count(*)",
    'PIVOT (SELECT content AS a FROM "read_text"(\'{secret}\')) ON a USING count(*)',
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW drops AS SELECT 1",
    "CREATE MACRO addr_text(a) AS 'x'",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO r0.d_netns VALUES (1, 'x', 1)",
    "DELETE FROM r0.d_netns",
    "UPDATE r0.d_netns SET name = 'x'",
    "MERGE INTO r0.d_netns USING r0.d_netns AS b ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE r0.d_netns",
    "DROP VIEW drops",
    "ALTER TABLE r0.d_netns ADD COLUMN x INT",
    "ATTACH '{new}' AS x",
    "ATTACH ':memory:' AS x",
    "DETACH memory",
    "USE raw",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "FORCE INSTALL spatial FROM community",
    "EXPORT DATABASE '{new}'",
    "IMPORT DATABASE '{secret}'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET temp_directory = '{new}'",
    "RESET memory_limit",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA database_list",
    "CALL enable_logging(storage = 'file', storage_path = '{new}')",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "",
    "   ",
    "-- only a comment",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM READ_TEXT('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM read_parquet('{folder}/*')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM sqlite_scan('{secret}', 'x')",
    "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('drops')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{new}')",
    "SELECT * FROM enable_profiling(save_location = '{new}')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT 1 WHERE EXISTS (FROM read_text('{secret}'))",
    "SELECT x.* FROM drops, LATERAL (FROM read_text('{secret}')) AS x",
    "SELECT getenv('HOME')",
    "SELECT write_log('x')",
    "FROM incident",
    "SELECT * FROM local_frame",
    "not sql at all",
    "SELECT '",
]  # fmt: skip

READING = [
    "SELECT 1",
    "SELECT 1;",
    " -- about\n SELECT count(*) FROM drops -- done",
    "FROM drops LIMIT 1",
    "VALUES (1)",
    "TABLE drops",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a WHERE x < 3) SELECT * FROM a",
    "DESCRIBE drops",
    "DESCRIBE SELECT 1",
    "SUMMARIZE resets",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT count(*) FROM drops",
    "/* x */ explain -- y\n FROM drops",
    "PIVOT drops ON protocol USING count(*) GROUP BY reason",
    "PIVOT (SELECT reason, protocol FROM drops) ON protocol USING count(*)",
    "FROM (PIVOT (SELECT reason, protocol FROM drops) ON protocol IN ('TCP') USING count(*))",
    "UNPIVOT (SELECT sport, dport FROM drops) ON sport, dport INTO NAME n VALUE v",
    "SELECT copy FROM (SELECT 'COPY x TO y; DROP TABLE z' AS copy)",
    "SELECT unnest([1, 2]), x FROM range(2) AS t(x)",
    "SELECT * FROM duckdb_views() LIMIT 1",
    "SELECT a.ts FROM drops AS a ASOF JOIN retransmits AS b ON a.saddr = b.daddr AND a.ts >= b.ts",
    "SELECT reason, sum(weight) OVER (ORDER BY ts RANGE INTERVAL 1 SECOND PRECEDING) FROM drops",
    "SELECT * FROM raw.drops",
    "SELECT json_extract('{\"a\": 1}', '$.a')",
    "SELECT ts FROM drops WHERE ts > now()::TIMESTAMP - INTERVAL 1 HOUR",
]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Place:
    """A recording of its own, a secret beside it, and what both were before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recording = make_incident(folder / "rec")
        self.secret = folder / "secret.csv"
        self.secret.write_text(f"{SECRET}\n")
        self.before = digest(folder)

    def fill(self, sql: str) -> str:
        own = min((self.recording / "drops").iterdir())
        values = {
            "own": own,
            "secret": self.secret,
            "new": self.folder / "new",
            "folder": self.folder,
        }
        for name, path in values.items():
            sql = sql.replace("{" + name + "}", str(path))
        return sql

    def check(self) -> None:
        assert digest(self.folder) == self.before


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def opened(place: Place) -> Iterator[Recording]:
    with open_recording(place.recording) as recording:
        yield recording


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[Client]:
    with Client([str(place.recording)]) as worker:
        yield worker


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql_in_this_process(place: Place, opened: Recording, sql: str) -> None:
    local_frame = opened.drops.to_arrow_table()
    before = opened.sql("SELECT count(*), max(function) FROM drops").fetchall()
    with pytest.raises(QueryError) as caught:
        opened.sql(place.fill(sql)).fetchall()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    place.check()
    assert opened.sql("SELECT count(*), max(function) FROM drops").fetchall() == before
    assert local_frame.num_rows == 5


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql_in_the_worker(place: Place, client: Client, sql: str) -> None:
    with pytest.raises(QueryError) as caught, client.ask(place.fill(sql)) as reader:
        reader.read_all()
    assert SECRET not in str(caught.value)
    place.check()
    with client.ask("SELECT count(*) AS n FROM drops") as reader:
        assert reader.read_all().to_pylist() == [{"n": 5}]


@pytest.mark.parametrize("sql", READING)
def test_reading_sql_runs(place: Place, opened: Recording, client: Client, sql: str) -> None:
    expected = opened.sql(sql).fetchall()
    with client.ask(sql) as reader:
        assert reader.read_all().num_rows == len(expected)
    place.check()


def test_parameters(opened: Recording) -> None:
    assert opened.sql("SELECT count(*) FROM drops WHERE dport = ?", [8080]).fetchall() == [(2,)]
    query = "SELECT count(*) FROM drops WHERE reason = $reason"
    assert opened.sql(query, {"reason": "' OR true --"}).fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM dropz", r"there is no table dropz \(did you mean drops\?\); tables: drops"),
        ("SELECT sadr FROM drops", "saddr"),
        ("SELECT * FROM drops WHERE", "syntax error"),
        ("DROP TABLE drops", r"DROP is not allowed: only SELECT"),
        ("WITH a AS (DELETE FROM drops) FROM a", "DELETE is not allowed, also inside WITH"),
        ("SELECT 1; SELECT 2", "2 statements given, one is possible at a time"),
        ("SELECT nosuch(1)", "nosuch"),
        ("SELECT 'a'::INT", "Could not convert"),
        ("FROM read_csv('/etc/passwd')", "the table function read_csv is not allowed"),
        ("FROM read_parquet('/etc/passwd')", "a query sees the recording only"),
    ],
)
def test_errors_say_what_to_do(opened: Recording, client: Client, sql: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught, client.ask(sql) as reader:
        reader.read_all()
    assert "\n" not in str(caught.value)
    # In this process, errors while fetching are DuckDB's own.
    with pytest.raises((QueryError, duckdb.Error)) as here:
        opened.sql(sql).fetchall()
    if isinstance(here.value, QueryError):
        assert str(here.value) == str(caught.value)
