from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.analyze import QueryError
from droptape.analyze.output import Format, write

CASES = [
    ("'infinity'::DATE", "infinity"),
    ("'-infinity'::DATE", "-infinity"),
    ("DATE '290000-02-29'", "290000-02-29"),
    ("DATE '0044-03-15 (BC)'", "-0043-03-15"),
    ("DATE '2023-11-14'", "2023-11-14"),
    ("NULL::DATE", None),
    ("'infinity'::TIMESTAMP", "infinity"),
    ("'-infinity'::TIMESTAMPTZ", "-infinity"),
    ("TIMESTAMP '290000-01-01 01:02:03.5'", "290000-01-01T01:02:03.500000Z"),
    ("TIMESTAMP '0044-03-15 (BC) 23:59:59'", "-0043-03-15T23:59:59.000000Z"),
    ("'infinity'::TIMESTAMP_S", "infinity"),
    ("'infinity'::TIMESTAMP_NS", "infinity"),
    ("[DATE '290000-01-01', NULL]", ["290000-01-01", None]),
    ("{'a': 'infinity'::DATE, 'b': 1}", {"a": "infinity", "b": 1}),
    ("MAP {'a': TIMESTAMP_NS '2023-11-14 22:13:20.123456789'}",
     [["a", "2023-11-14T22:13:20.123456789Z"]]),
    ("NULL::DATE[]", None),
]  # fmt: skip


def rows(sql: str) -> pa.Table:
    found = duckdb.sql(f"SELECT {sql} AS d")
    assert found is not None
    return found.to_arrow_table()


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[sql for sql, _ in CASES])
@pytest.mark.parametrize("form", [Format.JSON, Format.NDJSON, Format.CSV, Format.TABLE])
def test_dates_that_python_has_not(
    sql: str, expected: object, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    write(rows(sql).to_reader(), form, None)
    out = capsys.readouterr().out
    if form in (Format.JSON, Format.NDJSON):
        found = json.loads(out)
        assert (found[0] if form is Format.JSON else found) == {"d": expected}
    elif isinstance(expected, str):
        date = expected.partition("T")[0]
        assert date in out
    assert "out of range" not in out


def test_far_and_near_times_of_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    times = pa.array([0, None, (1 << 63) - 1, 1_700_000_000_123_456], pa.timestamp("us"))
    write(pa.table({"d": times}).to_reader(), Format.CSV, None)
    assert capsys.readouterr().out.split() == [
        "d", "1970-01-01T00:00:00.000000Z", '""', "infinity", "2023-11-14T22:13:20.123456Z",
    ]  # fmt: skip


def test_intervals_are_text_in_parquet(tmp_path: Path) -> None:
    found = rows("unnest([INTERVAL 1 DAY, NULL])")
    write(found.to_reader(), Format.PARQUET, tmp_path / "x")
    assert pq.read_table(tmp_path / "x").to_pylist() == [{"d": "1 day"}, {"d": None}]


def test_what_parquet_has_no_type_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"parquet cannot hold .*; cast the column to VARCHAR"):
        write(rows("[INTERVAL 1 DAY]").to_reader(), Format.PARQUET, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
