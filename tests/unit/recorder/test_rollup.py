"""Counting while sealing, against counting row by row."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.format.decode import Records
from droptape.format.journal import JournalWriter
from droptape.format.rollup import CAUSES, KEY, OWNERS, Rollup, keys_of, unpack
from droptape.format.service import port
from droptape.recorder import rollup, seal

from .synthetic import drops, drops_table

TABLE = drops_table()
OFFSET = 10**18
START = OFFSET + 10**15


def counted(records: Records, *, group: int = 131_072, start: int = START) -> dict[str, Rollup]:
    """Count records as sealing does, `group` rows at a time."""
    counting = rollup.Counting(TABLE, start)
    for at in range(0, len(records), group):
        part = records[at : at + group]
        columns = {name: np.ascontiguousarray(part[name]) for name in part.dtype.names or ()}
        columns = {n: c[:1] if (c == c[0]).all() else c for n, c in columns.items()}
        counting.add(columns, part["mono_ns"].astype(np.int64) + OFFSET)
    text = counting.finish()
    return {one.name: one for one in unpack(TABLE, text.encode())} if text else {}


def by_hand(records: Records, of: Rollup) -> dict[tuple[Any, ...], tuple[int, int, int, int]]:
    """Count row by row: by slot and keys, (rows, weight, first, last)."""
    keys = keys_of(TABLE, of.name)
    ports = port(TABLE, {name: records[name] for name in records.dtype.names or ()})
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for record, service in zip(records, np.broadcast_to(ports, len(records)), strict=True):
        ns = int(record["mono_ns"]) + OFFSET
        slot = (ns - of.slots.origin_ns) // of.slots.width_ns
        values = [service if key == "port" else record[key] for key in keys]
        key = (slot * of.slots.width_ns + of.slots.origin_ns, *(v.item() for v in values))
        found[key].append((ns, int(record["weight"])))
    return {
        key: (len(rows), sum(w for _, w in rows), min(rows)[0], max(rows)[0])
        for key, rows in found.items()
    }


def plain(of: Rollup) -> dict[tuple[Any, ...], tuple[int, int, int, int]]:
    keys = keys_of(TABLE, of.name)
    out = {}
    for count in of.counts:
        key = (int(count["slot"]), *(count[key].item() for key in keys))
        assert key not in out
        values = (count["rows"], count["weight"], count["first"], count["last"])
        out[key] = (int(values[0]), int(values[1]), int(values[2]), int(values[3]))
    return out


@given(
    rows=st.integers(4096, 9000),
    seed=st.integers(0, 1000),
    group=st.sampled_from([1000, 4096, 131_072]),
    stretch=st.sampled_from([1, 1000, 100_000, 10_000_000]),
    weighted=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_the_rows(
    rows: int, seed: int, group: int, stretch: int, weighted: bool
) -> None:
    """However far apart they are in time: slots are as wide as it takes."""
    records = drops(rows, seed=seed)
    records["mono_ns"] = 10**15 + (records["mono_ns"] - 10**15) * np.uint64(stretch)
    if weighted:
        records["weight"] = np.random.default_rng(seed).integers(1, 5000, rows)
    found = counted(records, group=group)

    assert found.keys() == {CAUSES, OWNERS}
    for one in found.values():
        assert plain(one) == by_hand(records, one)


def test_what_came_before_the_start_is_counted_too() -> None:
    records = drops(5000)
    found = counted(records, start=START + 3_456_789_012)

    assert min(found[CAUSES].counts["slot"]) < START + 3_456_789_012
    assert plain(found[CAUSES]) == by_hand(records, found[CAUSES])


@pytest.mark.parametrize("most", [10, 40, 1000])
def test_with_too_many_counts_slots_become_wider(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = drops(60_000)
    records["mono_ns"] = 10**15 + np.arange(60_000, dtype=np.uint64) * 10**7  # ten minutes
    monkeypatch.setattr(rollup, "_MOST", 1 << 16)
    narrow = counted(records, group=10_000)[CAUSES]
    monkeypatch.setattr(rollup, "_MOST", most)
    wide = counted(records, group=10_000).get(CAUSES)

    if wide is None:
        assert most < 12  # that many causes there are
        return
    assert wide.slots.width_ns >= narrow.slots.width_ns
    assert plain(wide) == by_hand(records, wide)


def test_rows_that_are_all_different_have_no_rollup() -> None:
    records = drops(20_000)
    records["tcp_flags"], records["dport"] = 2, np.arange(20_000)
    found = counted(records)

    assert found.keys() == {CAUSES}
    records["location"] = np.arange(20_000)
    assert counted(records) == {}


def test_a_last_group_of_few_rows_takes_nothing_away() -> None:
    """Rows of it are all different; there is enough before it."""
    records = drops(41_000)
    records["tcp_flags"][40_000:], records["dport"][40_000:] = 2, np.arange(1000)
    found = counted(records, group=40_000)

    assert found.keys() == {CAUSES, OWNERS}
    assert plain(found[OWNERS]) == by_hand(records, found[OWNERS])


def test_few_rows_have_none() -> None:
    assert counted(drops(4095)) == {}
    assert counted(drops(4096)).keys() == {CAUSES, OWNERS}


@given(st.integers(1, 400), st.integers(1, 4000), st.integers(0, 10))
@settings(max_examples=50, deadline=None)
def test_equal_rows_have_equal_numbers(different: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, different, rows)
    columns = [
        rng.integers(0, 2**63, different).astype(np.uint64)[chosen],
        np.array([f"name {n % 7}".encode() for n in range(different)], "S16")[chosen],
    ]
    found = rollup._numbered(columns, rows, rows)
    assert found is not None
    numbers, leaders = found

    occurring = len(set(chosen.tolist()))
    assert sorted(set(numbers.tolist())) == list(range(occurring)) == list(range(len(leaders)))
    for column in columns:
        assert (column[leaders][numbers] == column).all()
    assert occurring == 1 or rollup._numbered(columns, rows, occurring - 1) is None


def test_rows_with_the_same_hash_are_not_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "_ODD", 0)  # then all rows have the same

    assert counted(drops(5000)) == {}
    alike = np.repeat(drops(1), 5000)
    assert counted(alike).keys() == {CAUSES, OWNERS}


def test_a_sealed_segment_has_them_in_its_footer(tmp_path: Path) -> None:
    """From the rows of its journal, in whatever frames and with whatever clocks."""
    journal = tmp_path / "000001-1.journal"
    writer = JournalWriter(journal, TABLE)
    records = drops(150_000)
    for at in range(0, len(records), 20_000):
        writer.append(records[at : at + 20_000], OFFSET)
    writer.close()
    seal.seal_journal(journal, START)

    footer = pq.read_metadata(seal.target_of(journal)).metadata
    read = {one.name: one for one in unpack(TABLE, footer[KEY])}
    assert read.keys() == {CAUSES, OWNERS}
    for one in read.values():
        assert one.slots.origin_ns == START
        assert plain(one) == by_hand(records, one)
