from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from droptape.format.decode import Records
from droptape.format.errors import FormatError
from droptape.format.journal import (
    HEADER,
    PREAMBLE,
    JournalReader,
    JournalWriter,
    encode_frame,
)
from droptape.format.schema import Column, Table
from droptape.format.types import MONO, TEXT16, U32

TABLE = Table(
    "t", "A table.", (Column("mono_ns", MONO, "m"), Column("n", U32, "n"), Column("s", TEXT16, "s"))
)
SIZES = (1, 7, 300, 0, 20)


def batch(first: int, rows: int) -> Records:
    records = np.zeros(rows, TABLE.dtype)
    records["n"] = np.arange(first, first + rows)
    records["mono_ns"] = records["n"].astype("u8") * 11
    records["s"] = [f"name{n % 5}" for n in range(rows)]
    return records


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[int]]:
    """A journal, its bytes, and where each frame ends (the header's first)."""
    path = tmp_path_factory.mktemp("j") / "a.journal"
    writer = JournalWriter(path, TABLE)
    ends, first = [writer.bytes], 0
    for rows in SIZES:
        writer.append(batch(first, rows), 1000 + first)
        first += rows
        ends.append(writer.bytes)
    writer.close()
    return path, path.read_bytes(), ends


def rows_in(path: Path) -> tuple[list[int], str]:
    reader = JournalReader(path)
    numbers = [n for frame in reader.frames() for n in frame.records["n"].tolist()]
    return numbers, reader.damage


def torn(writer: JournalWriter) -> bool:
    return writer.torn


def test_what_is_appended_comes_back(written: tuple[Path, bytes, list[int]]) -> None:
    path = written[0]
    reader = JournalReader(path)
    assert reader.table == TABLE
    frames = list(reader.frames())
    assert [len(f.records) for f in frames] == list(SIZES)
    assert [f.wall_offset_ns for f in frames] == [1000, 1001, 1008, 1308, 1308]
    assert all((f.records == batch(f.wall_offset_ns - 1000, len(f.records))).all() for f in frames)
    assert reader.damage == ""
    table = reader.read()
    assert table["n"].to_pylist() == list(range(sum(SIZES)))
    assert table["ts_ns"].to_pylist()[8] == 8 * 11 + 1008


def test_every_cut_keeps_every_whole_frame(
    written: tuple[Path, bytes, list[int]], tmp_path: Path
) -> None:
    _, data, ends = written
    path = tmp_path / "cut.journal"
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        if length < ends[0]:
            with pytest.raises(FormatError, match=r"cut\.journal"):
                JournalReader(path)
            continue
        whole = sum(end <= length for end in ends[1:])
        numbers, damage = rows_in(path)
        assert numbers == list(range(sum(SIZES[:whole])))
        assert bool(damage) == (length not in ends)


@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_flipped_bit_is_noticed(
    written: tuple[Path, bytes, list[int]], tmp_path: Path, at: int, bit: int
) -> None:
    _, data, ends = written
    place = at % len(data)
    broken = bytearray(data)
    broken[place] ^= 1 << bit
    path = tmp_path / "flipped.journal"
    path.write_bytes(broken)
    if place < ends[0]:
        with pytest.raises(FormatError, match=r"flipped\.journal"):
            JournalReader(path)
        return
    whole = sum(end <= place for end in ends[1:])
    numbers, damage = rows_in(path)
    assert damage
    assert f"byte {ends[whole]}" in damage
    before, after = sum(SIZES[:whole]), sum(SIZES[: whole + 1])
    assert numbers == [*range(before), *range(after, sum(SIZES))], "only the damaged frame is lost"


@given(first=st.integers(0, 10**9), size=st.integers(1, 400))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_follows_an_overwritten_part_is_read(
    written: tuple[Path, bytes, list[int]], tmp_path: Path, first: int, size: int
) -> None:
    _, data, ends = written
    start = ends[0] + first % (len(data) - ends[0])
    end = min(start + size, len(data))
    path = tmp_path / "hole.journal"
    assume(data[start:end] != b"\xff" * (end - start))
    path.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])
    numbers, damage = rows_in(path)
    starts = [0, *(sum(SIZES[: n + 1]) for n in range(len(SIZES)))]
    whole = [n for n in range(len(SIZES)) if ends[n + 1] <= start or ends[n] >= end]
    assert numbers == [n for frame in whole for n in range(starts[frame], starts[frame + 1])]
    assert damage


@given(garbage=st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_never_taken_for_rows(
    written: tuple[Path, bytes, list[int]], tmp_path: Path, garbage: bytes
) -> None:
    path = tmp_path / "garbage.journal"
    path.write_bytes(PREAMBLE + garbage)
    with pytest.raises(FormatError):
        JournalReader(path)
    path.write_bytes(written[1] + garbage)
    numbers, damage = rows_in(path)
    assert numbers == list(range(sum(SIZES)))
    assert bool(damage) == bool(garbage)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.journal")
    with pytest.raises(OSError, match="no regular file"):
        JournalReader(tmp_path / "a.journal")


def forged(raw: int, stored: int) -> bytes:
    return struct.pack("<IIIIIqI", 0x4A50_5444, 2, 1, raw, stored, 0, 0)


@pytest.mark.parametrize("sizes", [(1 << 30, 1 << 29), (1 << 27, 64), (8, 1 << 26)])
def test_no_recorder_writes_such_a_frame(
    written: tuple[Path, bytes, list[int]], tmp_path: Path, sizes: tuple[int, int]
) -> None:
    path = tmp_path / "large.journal"
    path.write_bytes(written[1] + forged(*sizes) + bytes(100))
    numbers, damage = rows_in(path)
    assert numbers == list(range(sum(SIZES)))
    assert damage.startswith("damaged at byte")


def test_a_journal_full_of_forged_frames_is_given_up_soon(
    written: tuple[Path, bytes, list[int]], tmp_path: Path
) -> None:
    path = tmp_path / "forged.journal"
    path.write_bytes(written[1] + forged(1 << 22, 1 << 22) * (1 << 18))  # 9 MB of them
    start = time.monotonic()
    numbers, damage = rows_in(path)
    assert time.monotonic() - start < 10
    assert numbers == list(range(sum(SIZES)))
    assert "too much damage" in damage


def test_a_header_that_is_nested_too_deep(tmp_path: Path) -> None:
    path = tmp_path / "deep.journal"
    path.write_bytes(PREAMBLE + encode_frame(HEADER, 0, b"[" * 100_000, 0))
    with pytest.raises(FormatError, match="header is damaged"):
        JournalReader(path)


def test_a_journal_that_grows_can_be_read(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a", TABLE)
    assert rows_in(tmp_path / "a") == ([], "")
    writer.append(batch(0, 3), 0)
    assert rows_in(tmp_path / "a") == ([0, 1, 2], "")
    writer.append(batch(3, 1), 0)
    assert rows_in(tmp_path / "a") == ([0, 1, 2, 3], "")
    assert writer.rows == 4
    writer.close()
    writer.close()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path / "a", TABLE)
    assert (tmp_path / "a").read_text() == "mine"


def test_a_failed_append_leaves_whole_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path / "a", TABLE)
    writer.append(batch(0, 5), 0)
    real = os.write
    calls = iter(range(100))

    def fill(fd: int, data: bytes | int) -> int:
        if next(calls) % 2 == 0 and not isinstance(data, int):
            return real(fd, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", fill)
        with pytest.raises(OSError, match="No space"):
            writer.append(batch(5, 5), 0)
        assert rows_in(tmp_path / "a") == (list(range(5)), "")
        assert not torn(writer)
        patch.setattr("os.ftruncate", fill)
        with pytest.raises(OSError, match="No space"):
            writer.append(batch(5, 5), 0)
        assert torn(writer)
    assert writer.rows == 5
    writer.close()


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:13]))
    writer = JournalWriter(tmp_path / "a", TABLE)
    writer.append(batch(0, 50), 0)
    writer.close()
    assert rows_in(tmp_path / "a") == (list(range(50)), "")


def test_a_journal_that_cannot_start_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space"):
        JournalWriter(tmp_path / "a", TABLE)
    assert not list(tmp_path.iterdir())
