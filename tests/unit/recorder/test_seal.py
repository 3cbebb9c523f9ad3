"""What a journal becomes: the same rows, whatever changes in them and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.format.decode import Records, decode
from droptape.format.journal import JournalWriter
from droptape.format.tables import TABLES
from droptape.format.types import MONO
from droptape.recorder import seal

from .synthetic import drops, drops_table

TABLE = drops_table()
OFFSET = 10**18


def sealed(folder: Path, *frames: tuple[Records, int]) -> pa.Table:
    """Seal a journal of these frames; return the rows of the file, in the order of time."""
    journal = folder / "000001-1.journal"
    writer = JournalWriter(journal, TABLE)
    for records, offset in frames:
        writer.append(records, offset)
    writer.close()
    result = seal.seal_journal(journal)
    assert result.segment is not None
    assert result.segment.rows == sum(len(records) for records, _ in frames)
    rows = pq.read_table(seal.target_of(journal), partitioning=None)
    journal.unlink()
    return plain(rows).sort_by("ts_ns")


def plain(rows: pa.Table) -> pa.Table:
    """Return the rows with plain texts and without metadata, to compare them."""
    fields = []
    for field in rows.schema:
        text = pa.types.is_dictionary(field.type)
        kind = field.type.value_type if text else field.type
        fields.append(pa.field(field.name, kind))
    return rows.cast(pa.schema(fields)).combine_chunks()


def same(count: int) -> Records:
    """Return drops that differ in their time only."""
    records = np.repeat(drops(1), count)
    records["mono_ns"] = 10**15 + np.arange(count)
    return records


@pytest.mark.parametrize("column", [c.name for c in TABLE if c.type is not MONO])
def test_one_row_that_differs_in_one_column(tmp_path: Path, column: str) -> None:
    kind, offset = cast(Mapping[str, Any], TABLE.dtype.fields)[column][:2]
    for at in 0, 1, 2047, 2048, 2049, 4094, 5000:
        records = same(5001)
        other = records[at : at + 1].view(np.uint8)
        other[offset + kind.itemsize - 1 if kind.kind == "V" else offset] ^= 1
        assert sealed(tmp_path, (records, OFFSET)).equals(plain(decode(TABLE, records, OFFSET)))


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.booleans(), st.integers(0, 2)), max_size=4),
    st.integers(1, 40),
)
@settings(max_examples=30, deadline=None)
def test_every_row_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bool, int]], remotes: int
) -> None:
    frames, start = [], 10**15
    for number, (count, alike, clock) in enumerate([(1, True, 0), *parts]):
        records = same(count) if alike else drops(count, remotes=remotes, seed=number)
        records["mono_ns"] = start + np.arange(count)
        start += count
        frames.append((records, OFFSET + 10**9 * clock * number))
    expected = pa.concat_tables([plain(decode(TABLE, r, o)) for r, o in frames])
    found = sealed(tmp_path_factory.mktemp("seal"), *frames)
    assert found.equals(expected.sort_by("ts_ns").combine_chunks())


def test_row_groups_do_not_share_what_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "ROW_GROUP", 1000)
    records = same(2500)
    records["dport"][:1000], records["dport"][1000:] = 80, 443
    found = sealed(tmp_path, (records, OFFSET))
    assert found["dport"].to_pylist() == [80] * 1000 + [443] * 1500


def test_only_what_can_be_unknown_is_optional(tmp_path: Path) -> None:
    records = same(10)
    records["ip_version"], records["owner_comm"], records["tcp_flags"] = 0, b"", 0
    sealed(tmp_path, (records, OFFSET))
    path = next(tmp_path.glob("*.parquet"))
    schema = pq.read_schema(path)
    unknown = {c.name for c in TABLE if c.can_be_unknown}
    assert {f.name for f in schema if f.nullable} == unknown
    assert {"ip_version", "owner_comm", "tcp_flags"} < unknown
    assert not {"ts_ns", "clock_ns", "saddr", "weight"} & unknown
    row = pq.read_table(path, partitioning=None).to_pylist()[0]
    assert [row[n] for n in ("ip_version", "owner_comm", "tcp_flags")] == [None] * 3


def test_rows_that_were_no_records_may_have_nulls_anywhere() -> None:
    assert all(f.nullable for table in TABLES.values() for f in table.arrow_schema)
