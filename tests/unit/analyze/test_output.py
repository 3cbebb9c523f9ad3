from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.analyze import QueryError
from droptape.analyze.output import MAX_TABLE_ROWS, Format, write

ROWS = pa.table(
    {
        "ts": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
        "at": pa.array([1_700_000_000_500_000, 1_700_000_001_000_000], pa.timestamp("us")),
        "name": ["a|b\x1b[31m", None],
        "n": pa.array([7, -1], pa.int64()),
        "f": [1.5, float("nan")],
        "d": pa.array([decimal.Decimal("10.00"), None], pa.decimal128(10, 2)),
        "raw": [b"\x00\xff", None],
        "items": [[1, 2], []],
        "fields": [{"x": 1, "y": "z"}, None],
        "flag": [True, False],
        "day": [datetime.date(2023, 11, 14), None],
    }
)


def written(form: Format, capsys: pytest.CaptureFixture[str], rows: pa.Table = ROWS) -> str:
    write(rows.to_reader(1), form, None)
    return capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(written(Format.JSON, capsys)) == [
        {
            "ts": "2023-11-14T22:13:20.123456789Z", "at": "2023-11-14T22:13:20.500000Z",
            "name": "a|b\x1b[31m", "n": 7, "f": 1.5, "d": 10, "raw": "00ff", "items": [1, 2],
            "fields": {"x": 1, "y": "z"}, "flag": True, "day": "2023-11-14",
        },
        {
            "ts": None, "at": "2023-11-14T22:13:21.000000Z", "name": None, "n": -1, "f": None,
            "d": None, "raw": None, "items": [], "fields": None, "flag": False, "day": None,
        },
    ]  # fmt: skip


def test_ndjson_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(Format.NDJSON, capsys).splitlines()
    assert [json.loads(line)["n"] for line in lines] == [7, -1]


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(written(Format.CSV, capsys))))
    assert rows[0] == ROWS.schema.names
    assert rows[1] == [
        "2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:20.500000Z", "a|b\x1b[31m", "7", "1.5",
        "10", "00ff", "[1, 2]", '{"x": 1, "y": "z"}', "true", "2023-11-14",
    ]  # fmt: skip
    assert rows[2][:5] == ["", "2023-11-14T22:13:21.000000Z", "", "-1", "nan"]


def test_table_aligns_and_lets_no_control_character_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = written(Format.TABLE, capsys, ROWS.select(["at", "name", "n"]))
    assert text.splitlines() == [
        "at                       name          n",
        "───────────────────────  ───────────  ──",
        "2023-11-14 22:13:20.500  a|b\\x1b[31m   7",
        "2023-11-14 22:13:21.000               -1",
    ]


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"name": ["日本", "abcd"], "n": [1, 2]})
    assert written(Format.TABLE, capsys, rows).splitlines()[2:] == ["日本  1", "abcd  2"]


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    text = written(Format.MARKDOWN, capsys, ROWS.select(["name", "n"]))
    assert text.splitlines() == [
        "| name         |   n |",
        "| ------------ | --: |",
        "| a\\|b\\x1b[31m |   7 |",
        "|              |  -1 |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("<img src=//e.vg>", "\\<img src=//e.vg>"), ("[a](//e.vg)", "[a]\\(//e.vg)"),
     ("a\\|b", "a\\\\\\|b"), ("__x__ *y* `z` &lt;", "\\_\\_x\\_\\_ \\*y\\* \\`z\\` \\&lt;"),
     ("nft_do_chain", "nft_do_chain"), ("a & b\\c [1, 2]", "a & b\\c [1, 2]")],
)  # fmt: skip
def test_no_name_is_markup_in_markdown(
    value: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = written(Format.MARKDOWN, capsys, pa.table({"name": [value]}))
    assert text.splitlines()[2].strip("| ") == shown


def test_only_a_table_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    digits = ["100000000000000000.01", "-0.10", "12345678901234567890.00"]
    rows = pa.table(
        {
            "f": [1e-9, 0.1234567891, -1e300],
            "d": pa.array([decimal.Decimal(d) for d in digits], pa.decimal128(30, 2)),
            "l": pa.array([[decimal.Decimal(d)] for d in digits], pa.list_(pa.decimal128(30, 2))),
        }
    )
    floats = ["1e-09", "0.1234567891", "-1e+300"]
    decimals = ["100000000000000000.01", "-0.1", "12345678901234567890"]
    lists = ['["100000000000000000.01"]', "[-0.1]", "[12345678901234567890]"]
    expected = [list(row) for row in zip(floats, decimals, lists, strict=True)]
    assert list(csv.reader(io.StringIO(written(Format.CSV, capsys, rows))))[1:] == expected
    markdown = written(Format.MARKDOWN, capsys, rows).splitlines()[2:]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown] == expected
    for form in (Format.JSON, Format.NDJSON):
        text = written(form, capsys, rows)
        found = json.loads(text) if form is Format.JSON else map(json.loads, text.splitlines())
        assert [list(row.values()) for row in found] == [
            [1e-9, "100000000000000000.01", ["100000000000000000.01"]],
            [0.1234567891, -0.1, [-0.1]],
            [-1e300, 12345678901234567890, [12345678901234567890]],
        ]
    table = written(Format.TABLE, capsys, rows)
    assert "0.123457 " in table
    assert "100000000000000000.01 " in table


def test_a_long_interval_keeps_its_digits(capsys: pytest.CaptureFixture[str]) -> None:
    values = [(0, 0, -1_500_000_000), (0, 0, 9_007_199_254_740_993_001)]
    spans = pa.array(values, pa.month_day_nano_interval())
    text = written(Format.CSV, capsys, pa.table({"i": spans}))
    assert text.splitlines() == ["i", "-1.5 s", "9007199254.740993001 s"]


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    empty = ROWS.schema.empty_table()
    assert written(Format.JSON, capsys, empty) == "[]\n"
    assert written(Format.NDJSON, capsys, empty) == ""
    assert written(Format.CSV, capsys, empty) == ",".join(ROWS.schema.names) + "\n"
    assert written(Format.TABLE, capsys, empty).endswith("(no rows)\n")


def test_a_long_table_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"n": range(MAX_TABLE_ROWS + 5)})
    text = written(Format.TABLE, capsys, rows)
    assert text.splitlines()[-1] == "1,000 of 1,005 rows; --format csv writes all"
    assert len(written(Format.CSV, capsys, rows).splitlines()) == MAX_TABLE_ROWS + 6


def test_parquet_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="parquet needs a file: -o FILE"):
        write(ROWS.to_reader(), Format.PARQUET, None)
    write(ROWS.to_reader(), Format.PARQUET, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 2


@pytest.mark.parametrize("form", [Format.CSV, Format.PARQUET, Format.JSON])
def test_a_failed_answer_leaves_no_file_and_keeps_the_old_one(tmp_path: Path, form: Format) -> None:
    def batches() -> object:
        yield ROWS.to_batches()[0]
        raise ValueError("half way")

    old = tmp_path / "out"
    old.write_text("old")
    reader = pa.RecordBatchReader.from_batches(ROWS.schema, batches())
    with pytest.raises((ValueError, pa.ArrowException), match="half way"):
        write(reader, form, old)
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="cannot be written: No such file or directory"):
        write(ROWS.to_reader(), Format.CSV, tmp_path / "no" / "out.csv")


def test_columns_of_the_same_name_are_all_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pa.Table.from_arrays(
        [pa.array([n]) for n in range(5)], names=["a", "b", "a", "a", "a_1"]
    )
    found = {"a": 0, "b": 1, "a_1": 2, "a_2": 3, "a_1_1": 4}
    assert json.loads(written(Format.JSON, capsys, rows)) == [found]
