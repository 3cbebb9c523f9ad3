"""Bundles from strangers, damaged anywhere: opened whole, or refused in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.analyze import RecordingError, open_recording
from droptape.analyze.bundle.safe import take
from unit.analyze.forger import (
    DROPS,
    Members,
    pack,
    sealed,
)
from unit.effort import EXAMPLES


def tables(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*/*.parquet")):
        table = pq.read_table(path)
        found[path.parent.name] = (table.schema.names, table.to_pylist())
    return found


@pytest.fixture(scope="module")
def unpacked(good: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("unpacked")
    take(good, folder)
    return tables(folder)


def refusal(data: bytes, folder: Path) -> str | None:
    """Unpack in this process; return why not, None when it was unpacked."""
    path = folder / "x.droptape"
    path.write_bytes(data)
    (folder / "unpacked").mkdir()
    try:
        take(path, folder / "unpacked")
    except RecordingError as exc:
        return str(exc)
    return None


@pytest.mark.timeout(600)
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
def test_a_flipped_bit(
    good: Path, unpacked: dict[str, Any], where: float, bit: int, late: bool
) -> None:
    """It is noticed, or lies where nothing is: in a date, or in the report."""
    spoiled = bytearray(good.read_bytes())
    # The report is most of the file and the least interesting: more often behind it.
    begin = spoiled.index(b"cgroups/") if late else 0
    spoiled[begin + int(where * (len(spoiled) - begin))] ^= 1 << bit
    with tempfile.TemporaryDirectory() as temp:
        said = refusal(bytes(spoiled), Path(temp))
        if said is None:
            assert tables(Path(temp, "unpacked")) == unpacked
        else:
            assert "\n" not in said


@pytest.mark.timeout(600)
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_cut_off_anywhere(good: Path, where: float) -> None:
    whole = good.read_bytes()
    with tempfile.TemporaryDirectory() as temp:
        said = refusal(whole[: int(where * len(whole))], Path(temp))
    assert said is not None
    assert "\n" not in said
    assert "x.droptape" in said


@pytest.mark.timeout(600)
@settings(max_examples=max(EXAMPLES // 8, 10), deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4
    )
)
def test_a_forged_file_with_flipped_bits(
    good: Path, members: Members, flips: list[tuple[float, int]]
) -> None:
    """Where all checksums were made to agree, the Parquet file itself is what is looked at.

    Some of these end the process that reads them, which must not be this one.
    """
    spoiled = bytearray(members[DROPS])
    for where, bit in flips:
        spoiled[int(where * len(spoiled))] ^= 1 << bit
    said = ""
    with tempfile.TemporaryDirectory() as temp:
        path = pack(Path(temp, "x.droptape"), sealed({**members, DROPS: bytes(spoiled)}))
        try:
            with open_recording(path) as rec:
                rec.sql("SELECT * FROM drops ORDER BY ALL").fetchall()
        except RecordingError as exc:
            said = str(exc)
    assert "\n" not in said
