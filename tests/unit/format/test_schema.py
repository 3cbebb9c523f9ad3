from __future__ import annotations

import ctypes
import json

import numpy as np
import pytest

from droptape.bpf.kinds import all_kinds
from droptape.format.errors import FormatError
from droptape.format.schema import Column, Table, by_name, numbered
from droptape.format.tables import TABLES
from droptape.format.types import ADDRESS, MONO, TEXT16, U8, U16, U32, U64

ALL = {name: kind.table for name, kind in all_kinds().items()} | TABLES
RECORDS = {n: t for n, t in ALL.items() if t.role != "dictionary"}


def offsets(table: Table) -> dict[str, int]:
    fields = table.dtype.fields
    assert fields is not None
    return {name: field[1] for name, field in fields.items()}


@pytest.mark.parametrize("table", ALL.values(), ids=lambda t: t.name)
def test_a_declaration_survives_json(table: Table) -> None:
    filled = table.with_enums({"skb_drop_reason": {2: "NOT_SPECIFIED", 3: "NO_SOCKET"}})
    assert Table.from_json(json.loads(json.dumps(filled.to_json()))) == filled


def test_names_of_the_kernel_are_filled_in() -> None:
    table = ALL["drops"].with_enums({"skb_drop_reason": {3: "NO_SOCKET"}})
    enum = table["reason"].enum
    assert enum is not None
    assert enum.values == {3: "NO_SOCKET"}
    state = table["state"].enum
    assert state is not None
    assert state.values[10] == "LISTEN"


@pytest.mark.parametrize("table", RECORDS.values(), ids=lambda t: t.name)
def test_the_record_has_the_layout_of_the_c_struct(table: Table) -> None:
    """ctypes lays a structure out as the C compiler does."""
    kinds = {"u1": ctypes.c_uint8, "u2": ctypes.c_uint16, "u4": ctypes.c_uint32,
             "u8": ctypes.c_uint64, "i4": ctypes.c_int32, "i8": ctypes.c_int64}  # fmt: skip
    fields = [
        (c.name, kinds.get(c.type.dtype) or ctypes.c_uint8 * np.dtype(c.type.dtype).itemsize)
        for c in table
    ]
    struct = type("Record", (ctypes.Structure,), {"_fields_": fields})
    assert offsets(table) == {n: getattr(struct, n).offset for n, _ in fields}
    assert table.dtype.itemsize == (ctypes.sizeof(struct) + 7) // 8 * 8


def test_the_record_is_a_multiple_of_eight_bytes() -> None:
    table = Table("t", "", (Column("a", U32, ""), Column("b", U8, ""), Column("c", U16, "")))
    assert table.dtype.itemsize == 8
    assert offsets(table) == {"a": 0, "b": 4, "c": 6}
    assert Table("t", "", (Column("a", U64, ""), Column("b", U8, ""))).dtype.itemsize == 16


@pytest.mark.parametrize("table", ALL.values(), ids=lambda t: t.name)
def test_names_are_unique_and_every_column_is_described(table: Table) -> None:
    assert len(set(table.arrow_schema.names)) == len(table.arrow_schema.names)
    views = [view.name for view in table.view_columns()]
    assert len(set(views)) == len(views)
    for field in table.arrow_schema:
        assert field.metadata[b"doc"], field.name
    assert set(table.cluster) <= {c.name for c in table}
    if table.role == "events":
        assert table[table.cause].doc


def test_time_is_stored_once() -> None:
    table = Table("t", "", (Column("mono_ns", MONO, "when", "ns"),))
    assert table.arrow_schema.names == ["ts_ns", "clock_ns"]
    sql = {view.name: view.sql for view in table.view_columns()}
    assert sql["mono_ns"] == "t.ts_ns - t.clock_ns"


def test_a_newer_type_is_told() -> None:
    data = Table("t", "", (Column("a", ADDRESS, ""),)).to_json()
    data["columns"][0]["type"] = "hologram"
    with pytest.raises(FormatError, match=r"hologram.*newer droptape"):
        Table.from_json(data)


@pytest.mark.parametrize("missing", ["name", "columns", "role", "cluster"])
def test_a_damaged_declaration_is_told(missing: str) -> None:
    data = Table("t", "", (Column("a", TEXT16, ""),)).to_json()
    del data[missing]
    with pytest.raises(FormatError, match="damaged"):
        Table.from_json(data)


def test_enums_are_numbered_from_zero_and_tables_have_one_name() -> None:
    assert numbered("e", "none", "some").values == {0: "none", 1: "some"}
    table = Table("t", "", ())
    with pytest.raises(ValueError, match="two tables"):
        by_name([table, table])
