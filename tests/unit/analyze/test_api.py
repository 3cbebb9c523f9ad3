"""The public API: what is exported, how it is called, that it is documented and typed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from droptape.analyze import Recording
from unit.analyze import public_api

COMMANDS = Path(inspect.getfile(Recording)).parent / "commands"


def callables() -> Iterator[tuple[str, Any]]:
    for name, value in public_api.exported().items():
        if not inspect.isclass(value):
            yield name, value
            continue
        for member, function in public_api.members(value).items():
            plain = function.fget if isinstance(function, property) else function
            yield f"{name}.{member}", getattr(plain, "__func__", plain)


def test_surface_is_the_golden_one() -> None:
    assert public_api.text() == public_api.GOLDEN.read_text(), (
        "the public API changed; when that is meant: "
        "PYTHONPATH=tests python tests/unit/analyze/public_api.py"
    )


@pytest.mark.parametrize("name", [name for name, _ in callables()])
def test_it_is_documented_and_typed(name: str) -> None:
    function = dict(callables())[name]
    doc = inspect.getdoc(function) or ""
    assert doc, "no docstring"
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            assert parameter.annotation is not inspect.Parameter.empty, parameter.name
            if name.startswith("Recording.") and len(signature.parameters) > 2:
                assert re.search(rf"\b{parameter.name}\b", doc), parameter.name


def test_classes_are_documented() -> None:
    assert all(inspect.getdoc(v) for v in public_api.exported().values() if inspect.isclass(v))


def test_every_answer_of_the_command_line_is_a_method_first() -> None:
    answers = {p.stem.rstrip("_") for p in COMMANDS.glob("*.py") if not p.stem.startswith("_")}
    # The shell asks through sql; diff takes two recordings, import and bundle make files.
    functions = {name for name, v in public_api.exported().items() if not inspect.isclass(v)}
    reached = {"shell", "query", *public_api.members(Recording), *functions}
    reached |= {name.removesuffix("_file") for name in functions}
    assert answers <= reached


def test_what_methods_return_can_be_imported() -> None:
    known = {*public_api.exported(), "DuckDBPyRelation", "DuckDBPyConnection", "None", "Path"}
    for name, function in callables():
        if name.startswith("Recording."):
            returned = str(inspect.signature(function).return_annotation)
            assert set(re.findall(r"\b[A-Z][A-Za-z]+\b", returned)) <= known, name


@pytest.mark.parametrize("sql", [
    "SELECT ts, saddr, reason, weight FROM drops ORDER BY ts",
    "SELECT kind, sum(amount)::BIGINT AS n FROM events GROUP BY ALL ORDER BY kind",
])  # fmt: skip
def test_relations_go_to_pandas_polars_and_arrow(rec: Recording, sql: str) -> None:
    rows = rec.sql(sql).fetchall()
    pandas_frame, polars_frame = rec.sql(sql).df(), rec.sql(sql).pl()
    arrow_table = rec.sql(sql).to_arrow_table()
    assert type(pandas_frame).__module__.startswith("pandas")
    assert isinstance(polars_frame, pl.DataFrame)
    assert isinstance(arrow_table, pa.Table)
    assert len(pandas_frame) == polars_frame.height == arrow_table.num_rows == len(rows) > 0
    last = arrow_table.column_names[-1]
    wanted = [row[-1] for row in rows]
    assert pandas_frame[last].tolist() == polars_frame[last].to_list() == wanted
    assert arrow_table[last].to_pylist() == wanted


def test_tables_are_relations_too(rec: Recording) -> None:
    assert len(rec.drops.df()) == rec.drops.pl().height == rec.drops.to_arrow_table().num_rows
