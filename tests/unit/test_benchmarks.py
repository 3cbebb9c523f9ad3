"""The pure parts of the benchmarks: ratios, verdicts and the table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

_BENCH = Path(__file__).parents[2] / "benchmarks" / "bench"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_table", _BENCH / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_ratio_is_the_median_of_pairs(table: ModuleType) -> None:
    ratio = table.Ratio.of([2.0, 30.0, 4.0], [1.0, 10.0, 1.0])
    assert (ratio.low, ratio.middle, ratio.high, ratio.pairs) == (2.5, 3.0, 3.5, 3)


def test_one_pair_has_no_spread(table: ModuleType) -> None:
    ratio = table.Ratio.of([3.0], [2.0])
    assert (ratio.low, ratio.middle, ratio.high) == (1.5, 1.5, 1.5)


def test_pairs_must_be_pairs(table: ModuleType) -> None:
    with pytest.raises(ValueError, match="zip"):
        table.Ratio.of([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="nothing to compare"):
        table.Ratio.of([1.0], [0.0])


def test_a_missed_goal_stands_out(table: ModuleType) -> None:
    row = table.Row("what", "9 s", "awk 1 s", table.Ratio.of([9.0], [1.0]), "under 1 s", False)
    assert row.cells() == ("what", "9 s", "awk 1 s", "9.00", "9.00 to 9.00", "under 1 s", "NO")


def test_every_form_of_the_table_tells_of_failures_and_notes(table: ModuleType) -> None:
    parts = [
        table.Part("one", [table.Row("a", "1", note="because")]),
        table.perform("two", lambda _: 1 / 0, table.Options()),
    ]
    for text in (table.as_text(parts), table.as_markdown(parts)):
        assert "a: because" in text
        assert "two failed: ZeroDivisionError" in text
    assert json.loads(table.as_json(parts, "here"))["parts"][1]["problem"].startswith("Zero")
