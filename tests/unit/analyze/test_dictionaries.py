"""What numbers mean, by the dictionaries of a recording."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from droptape.analyze import dictionary, open_recording
from droptape.format.schema import Column, Table
from droptape.format.types import I64, NETNS, STRING
from unit.analyze.make import SECOND, START, Maker


def test_large_dictionaries_are_joined(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    rows = [
        {"at": i, "reason": "NO_SOCKET", "location": 0x1000, "cgroup_id": i} for i in range(1, 200)
    ]
    maker.seal("drops", rows)
    maker.dictionary(
        "cgroups", [{"id": i, "path": f"/p'{i}", "container": f"c{i}"} for i in range(150)]
    )
    with open_recording(maker.finish()) as rec:
        rows_seen = rec.sql("SELECT cgroup_id, cgroup, container FROM drops ORDER BY 1").fetchall()
    assert rows_seen == [
        (i, f"/p'{i}" if i < 150 else None, f"c{i}" if i < 150 else None) for i in range(1, 200)
    ]


def test_a_dictionary_with_repeated_keys_adds_no_rows(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "cgroup_id": 1, "netns": 2}])
    for _ in range(3):
        maker.dictionary("cgroups", [{"id": 1, "path": "/a", "container": "a"}])
        maker.dictionary("netns", [{"inum": 2, "name": "b"}])
    with open_recording(maker.finish()) as rec:
        assert rec.sql("SELECT container, netns_name FROM drops").fetchall() == [("a", "b")]


@pytest.mark.parametrize("small", [64, 0])
def test_a_number_has_the_name_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(dictionary, "_SMALL", small)
    maker = Maker(tmp_path / "r")
    rows = [{"at": at, "reason": "NO_SOCKET", "netns": n} for at in range(6) for n in (2, 3, 4)]
    maker.seal("drops", [*rows, {"at": 9, "reason": "NO_SOCKET", "netns": 5}])
    maker.journal("drops", [{"at": 3.5, "reason": "NO_SOCKET", "netns": 2}])
    for _ in range(2):  # what is said again changes nothing
        maker.dictionary(
            "netns",
            [
                {"inum": 2, "name": "blue"},
                {"inum": 2, "since": START + 2 * SECOND},
                {"inum": 2, "name": "red", "since": START + 4 * SECOND},
                {"inum": 3, "name": "green", "since": START + 3 * SECOND},
                {"inum": 4, "name": "this"},
                {"inum": 4, "name": "that"},
                {"inum": 5, "name": "gr'ey"},
            ],
        )
    with open_recording(maker.finish()) as rec:
        names = {
            n: [
                name
                for (name,) in rec.sql(
                    f"SELECT netns_name FROM drops WHERE netns = {n} ORDER BY ts"
                ).fetchall()
            ]
            for n in (2, 3, 4, 5)
        }
    assert names == {
        2: ["blue", "blue", None, None, None, "red", "red"],
        3: [None, None, None, "green", "green", "green"],
        4: [None] * 6,
        5: ["gr'ey"],
    }


def test_a_strangers_dictionary_cannot_put_sql_into_a_view(tmp_path: Path) -> None:
    names = ("inum", "name", "since_ns", "k", "s", "lives", "before")
    kinds = [I64, *[STRING] * 6]
    columns = tuple(Column(n, kind, "") for n, kind in zip(names, kinds, strict=True))
    theirs = Table("netns", "", columns, role="dictionary")
    maker = Maker(tmp_path / "r")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "netns": 2}])
    evil = "2 THEN 'x' END; DROP VIEW main.drops; --'"
    values = [[2, 2, 3], ["blue", "red", evil], [None, "5", evil], *[[evil] * 3] * 4]
    maker.tables["netns"] = theirs
    maker.write("netns", pa.table(values, schema=theirs.arrow_schema))
    with open_recording(maker.finish()) as rec:
        assert rec.sql("SELECT netns_name FROM drops").fetchall() == [("red",)]


@pytest.mark.parametrize("small", [64, 0])
def test_rows_without_a_time_get_no_name_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(dictionary, "_SMALL", small)
    theirs = Table("spaces", "Of a plug-in.", (Column("netns", NETNS, "which"),), cause="netns")
    maker = Maker(tmp_path / "r")
    maker.tables["spaces"] = theirs
    maker.write("spaces", pa.table([[2, 3]], schema=theirs.arrow_schema))
    maker.dictionary(
        "netns",
        [
            {"inum": 2, "name": "blue"},
            {"inum": 2, "name": "red", "since": START},
            {"inum": 3, "name": "green", "since": START},
        ],
    )
    with open_recording(maker.finish()) as rec:
        found = rec.sql("SELECT netns, netns_name FROM spaces ORDER BY 1").fetchall()
    assert found == [(2, None), (3, "green")]
