"""Rollups in a footer: what was written comes back, or is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.bpf.kinds import all_kinds
from droptape.format.errors import FormatError
from droptape.format.rollup import (
    CAUSES,
    FIRST,
    LAST,
    OWNERS,
    SLOT,
    WEIGHT,
    Rollup,
    Slots,
    keys_of,
    pack,
    rollup_table,
    unpack,
)
from droptape.format.schema import Table

KINDS = all_kinds()
DROPS = KINDS["drops"].table.with_enums({"skb_drop_reason": {3: "NO_SOCKET"}})


def rollup(name: str, rows: int, table: Table = DROPS) -> Rollup:
    declared = rollup_table(table, keys_of(table, name))
    counts = np.zeros(rows, declared.dtype)
    for number, column in enumerate(declared.dtype.names or ()):
        counts[column] = np.arange(rows) * (number + 1) % 100
    return Rollup(name, Slots(1_700_000_000_123_456_789, 10**8), declared, counts)


@pytest.mark.parametrize("table", [k.table for k in KINDS.values() if k.table.role == "events"])
@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_comes_back_as_it_was(table: Table, rows: int) -> None:
    written = [rollup(CAUSES, rows, table), rollup(OWNERS, rows, table)]
    read = unpack(table, pack(written).encode())

    assert [one.name for one in read] == [CAUSES, OWNERS]
    for before, after in zip(written, read, strict=True):
        assert (after.slots, after.table) == (before.slots, before.table)
        for column in before.table.dtype.names or ():
            assert (before.counts[column] == after.counts[column]).all()


def test_names_and_numbers_are_as_in_rows() -> None:
    counts = rollup(CAUSES, 5)
    counts.counts["reason"], counts.counts["location"] = 3, 2**64 - 2
    (read,) = unpack(DROPS, pack([counts]).encode())

    assert read.to_arrow()["reason"].to_pylist() == ["NO_SOCKET"] * 5
    assert read.to_arrow()["location"].to_pylist() == [-2] * 5


def test_a_small_change_is_noticed() -> None:
    """Of any number in it and of any part of its data."""
    text = pack([rollup(CAUSES, 50)])
    for name, other in {
        "origin_ns": 1_700_000_000_123_456_788,
        "width_ns": 10**9,
        "rows": 49,
        "keys": ["reason", "benign", "location"],
        "crc32": 1,
    }.items():
        found = json.loads(text)
        found[CAUSES][name] = other
        with pytest.raises(FormatError):
            unpack(DROPS, json.dumps(found).encode())


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    text = bytearray(pack([rollup(CAUSES, 20), rollup(OWNERS, 20)]).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = unpack(DROPS, bytes(text))
    except FormatError:
        return
    # The name of one can change, then only the other is there; or how the JSON is spaced.
    for one in read:
        expected = rollup(one.name, 20)
        assert one.slots == expected.slots
        assert one.counts[WEIGHT].tolist() == expected.counts[WEIGHT].tolist()


ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers())
FIELDS = st.sampled_from(["origin_ns", "width_ns", "keys", "rows", "crc32", "data", "x"])


@given(ANY | st.dictionaries(FIELDS, ANY, max_size=7))
@settings(max_examples=150, deadline=None)
def test_any_other_json_is_refused(data: Any) -> None:
    try:
        found = unpack(DROPS, json.dumps({CAUSES: data}).encode())
    except FormatError:
        return
    assert found == []


def test_rows_without_end_are_refused() -> None:
    """Before memory is taken for them."""
    found = json.loads(pack([rollup(CAUSES, 1)]))
    found[CAUSES]["rows"] = 1 << 60
    with pytest.raises(FormatError, match="damaged"):
        unpack(DROPS, json.dumps(found).encode())


@pytest.mark.parametrize("column", [SLOT, FIRST, LAST])
@pytest.mark.parametrize("far", [1 << 62, -(1 << 63)])
def test_times_that_no_clock_shows_are_refused(column: str, far: int) -> None:
    """SQL could not subtract them."""
    of = rollup(CAUSES, 3)
    of.counts[column][1] = far
    with pytest.raises(FormatError):
        unpack(DROPS, pack([of]).encode())
    for slots in Slots(far, 1), Slots(0, far):
        with pytest.raises(FormatError):
            unpack(DROPS, pack([replace(rollup(CAUSES, 3), slots=slots)]).encode())


def test_buckets_that_slots_fit_into() -> None:
    slots = Slots(origin_ns=7, width_ns=100)

    assert slots.fit(7, 100)
    assert slots.fit(7, 300)
    assert slots.fit(207, 100)
    assert not slots.fit(8, 100)
    assert not slots.fit(7, 150)
    assert not slots.fit(7, 50)
