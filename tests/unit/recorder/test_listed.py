"""The segments of a manifest that is written again and again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from droptape.format.manifest import Manifest, Segment, line_of, write_atomic
from droptape.recorder.ledger import Ledger
from droptape.recorder.listed import Listed
from unit.recorder.helpers import make_manifest, make_store, tables


def segment(number: int, table: str = "drops", size: int = 10) -> Segment:
    file = f"{table}/{number:06d}-20250101T000000Z.parquet"
    return Segment(table, file, number, number, None, size, f"{number:064x}")


def test_a_list_of_segments_like_any_other() -> None:
    listed, plain, chance = Listed(), dict[str, Segment](), random.Random(1)
    for step in range(3000):
        table = chance.choice(("drops", "counters"))
        one = segment(chance.randrange(1, 400), table, step)
        if chance.random() < 0.3:
            listed.drop(table, one.file)
            plain.pop(one.file, None)
        else:
            listed.put(one)
            plain[one.file] = one
    assert sorted(listed.all(), key=lambda s: s.file) == sorted(
        plain.values(), key=lambda s: s.file
    )
    for table in ("drops", "counters"):
        mine = [s for s in plain.values() if s.table == table]
        assert listed.bytes[table] == sum(s.bytes for s in mine)
        for after in (-1, 100, 399):
            later = [s for s in mine if s.rows > after]
            assert listed.first(table, after) == min(later, key=lambda s: s.rows, default=None)
    assert listed.first("none", -1) is None
    listed.drop("none", "none/000001-20250101T000000Z.parquet")


def test_the_line_of_a_segment_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(one: Segment) -> bytes:
        made.append(one.file)
        return line_of(one)

    monkeypatch.setattr("droptape.recorder.listed.line_of", counted)
    manifest = make_manifest()
    manifest.tables = tables()
    ledger = Ledger(tmp_path, manifest)
    for number in range(1, 301):
        ledger.add(segment(number))
        if number % 100 == 0:
            ledger.save()
    assert made == [segment(number).file for number in range(1, 301)]
    found = Manifest.read(tmp_path)
    assert found.segments == [segment(number) for number in range(1, 301)]
    ledger.remove(segment(1), 1)
    ledger.save()
    found = Manifest.read(tmp_path)
    assert (len(found.segments), ledger.sealed_bytes) == (299, 2990)
    assert (found.tables, found.removed["drops"].files) == (manifest.tables, 1)


def test_all_dictionaries_of_a_second_are_one_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Path] = []

    def counted(path: Path, data: Iterable[bytes]) -> None:
        saves.append(path)
        write_atomic(path, data)

    monkeypatch.setattr("droptape.recorder.ledger.write_atomic", counted)
    store = make_store(tmp_path / "rec")
    for number in range(6):
        store.write_dictionary("cgroups", [{"id": number}])
    store.close("test")
    assert len(Manifest.read(tmp_path / "rec").segments) == 6
    assert len(saves) == 2  # at the begin and at the end
