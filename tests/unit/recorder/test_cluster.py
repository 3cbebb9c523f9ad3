from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.format.schema import Table
from droptape.recorder.cluster import order

from .synthetic import drops, drops_table

TABLE = drops_table()


def reference(table: Table, records: np.ndarray) -> list[int]:
    """Sort as Python does, one row at a time."""

    def key(i: int) -> tuple[object, ...]:
        values = [records[name][i] for name in table.cluster]
        return (*(v.tobytes() if isinstance(v, np.void) else int(v) for v in values),
                int(records["mono_ns"][i]), i)  # fmt: skip

    return sorted(range(len(records)), key=key)


@given(st.integers(1, 300), st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_are_sorted_by_cluster_then_time(rows: int, seed: int, ipv6: bool) -> None:
    records = drops(rows, remotes=7, seed=seed)
    if ipv6:
        rng = np.random.default_rng(seed)
        noise = rng.integers(0, 256, (rows, 16), np.uint8)
        records["saddr"] = noise.view("V16").reshape(-1)
        records["location"] = rng.integers(0, 2**64, rows, np.uint64)
    columns = {name: np.ascontiguousarray(records[name]) for name in records.dtype.names or ()}
    assert order(TABLE, columns, rows).tolist() == reference(TABLE, records)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows(rows: int) -> None:
    columns = {name: drops(max(rows, 1))[name][:rows].copy() for name in TABLE.dtype.names or ()}
    assert sorted(order(TABLE, columns, rows).tolist()) == list(range(rows))
