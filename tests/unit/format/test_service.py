"""The service's port: NumPy and SQL say the same of the same rows."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.bpf.kinds import all_kinds
from droptape.format.decode import decode
from droptape.format.service import port, port_sql

TABLES = {name: kind.table for name, kind in all_kinds().items() if kind.table.role == "events"}
PORTS = st.sampled_from([0, 22, 80, 32767, 32768, 45000, 65535])
FLAGS = st.sampled_from([0, 2, 16, 18, 0x12, 0x52, 0xC2, 0x42, 20, 4])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "sport": PORTS,
            "dport": PORTS,
            "lport": PORTS,
            "tcp_flags": FLAGS,
            "protocol": st.sampled_from([0, 1, 6, 17]),
            "state": st.sampled_from([0, 1, 10, 7]),
            "path": st.sampled_from([0, 1, 2, 3]),
        }
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.parametrize("name", TABLES)
@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_numpy_and_sql_agree(name: str, rows: list[dict[str, int]]) -> None:
    table = TABLES[name]
    records = np.zeros(len(rows), table.dtype)
    for column in (c.name for c in table if c.name in rows[0]):
        records[column] = [row[column] for row in rows]
    whole = {column.name: records[column.name] for column in table}
    found = np.broadcast_to(port(table, whole), len(rows))

    stored = decode(table, records, 0)
    sql = port_sql(stored.column_names)
    with duckdb.connect() as connection:
        connection.register("stored", stored)
        expected = connection.sql(f"SELECT coalesce({sql}, 0) FROM stored").fetchall()

    assert [(int(one),) for one in found] == expected


def test_what_is_the_same_in_all_rows_may_be_there_once() -> None:
    table = TABLES["drops"]
    records = np.zeros(3, table.dtype)
    records["dport"], records["tcp_flags"] = 443, 2
    records["sport"] = [50000, 80, 443]
    whole: dict[str, Any] = {column.name: records[column.name][:1] for column in table}
    whole["sport"] = records["sport"]

    assert port(table, whole).tolist() == [443, 443, 443]
    whole["tcp_flags"] = np.array([16], np.uint8)
    assert port(table, whole).tolist() == [443, 80, 443]
