"""Recovery of what a power cut or damage left, and of what another recovers."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from droptape.analyze import open_recording
from droptape.format.errors import FormatError
from droptape.format.journal import JournalWriter
from droptape.format.manifest import Manifest
from droptape.format.tables import COUNTERS
from droptape.recorder.lock import FolderLock, LockedError
from droptape.recorder.recovery import RecoveryError, recover
from droptape.recorder.seal import Sealed, seal_journal
from droptape.recorder.segment import describe

from .helpers import OFFSET, acks, make_store, numbered
from .synthetic import drops_table
from .test_recovery import check_whole, crashed

PAGE, FOOTER = 100, 3


def flip(path: Path, part: int) -> None:
    """Change one bit in the first page, or at the begin of the footer."""
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[footer + part if part == FOOTER else part] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("left", [-100, 4, 0])
def test_a_segment_has_all_rows_of_a_journal_that_a_power_cut_shortened(
    tmp_path: Path, left: int
) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    seal_journal(journal)
    os.truncate(journal, left if left >= 0 else journal.stat().st_size + left)
    assert recover(folder).damage == []
    assert acks(folder) == list(range(3000))
    check_whole(folder)


@pytest.mark.parametrize("part", [PAGE, FOOTER])
def test_a_damaged_segment_is_made_again_of_its_journal(tmp_path: Path, part: int) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    sealed = seal_journal(journal).segment
    assert sealed is not None
    flip(folder / sealed.file, part)
    recover(folder)
    assert acks(folder) == list(range(3000))
    check_whole(folder)


@pytest.mark.parametrize("part", [PAGE, FOOTER])
def test_a_damaged_segment_ends_no_recovery(tmp_path: Path, part: int) -> None:
    folder = tmp_path / "rec"
    first = crashed(folder)
    second = first.with_name(first.name.replace("000001", "000002"))
    second.write_bytes(first.read_bytes())
    sealed = seal_journal(second).segment
    assert sealed is not None
    second.unlink()
    flip(folder / sealed.file, part)
    (damage,) = recover(folder).damage
    assert f"{folder / sealed.file} is damaged" in damage
    manifest = Manifest.read(folder)
    assert damage in manifest.notes
    assert manifest.state == "recovered"
    assert [segment.rows for segment in manifest.segments] == [3000]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("ending", ["journal", "parquet"])
def test_what_is_no_file_ends_no_recovery(
    tmp_path: Path, make: Callable[[Path], None], ending: str
) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    make(journal.with_name(f"000009-20261121T000000Z.{ending}"))
    assert recover(folder).rows == 3000
    assert Manifest.read(folder).state == "recovered"


def test_no_damage_to_a_footer_ends_the_process(tmp_path: Path) -> None:
    """Of some pyarrow says only while it reads; asked for statistics it calls abort(3)."""
    sealed = seal_journal(crashed(tmp_path / "rec", 100)).segment
    assert sealed is not None
    path = tmp_path / "rec" / sealed.file
    data = path.read_bytes()

    start = data.rindex(b"ts_ns", 0, data.rindex(b"ARROW:schema"))
    child = os.fork()
    if child == 0:
        for at in range(start - 40, start):
            for bit in (1, 16):
                path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
                with contextlib.suppress(FormatError):
                    describe(path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two recorders could complete one recording at the same time."""
    first = FolderLock(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("droptape.recorder.lock.time.sleep", lambda _seconds: first.release())
        second = FolderLock(tmp_path)
    assert second.intact()
    with pytest.raises(LockedError):
        FolderLock(tmp_path)
    second.release()


def test_a_journal_of_another_recording_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    foreign = journal.with_name("000002-20261121T000000Z.journal")
    writer = JournalWriter(foreign, drops_table(), "ffffffff-0000-0000-0000-000000000000")
    writer.append(numbered(9000, 10), OFFSET)
    writer.close()
    for _ in range(2):
        (damage,) = recover(folder).damage
        assert damage == f"{foreign} is of another recording, and was left alone"
        assert foreign.exists()
        with open_recording(folder) as recording:
            assert recording.sql("SELECT count(*) FROM drops").fetchall() == [(3000,)]
            (problem,) = recording.problems
    assert str(problem) == f"{foreign}: left out: it is a journal of another recording"


@pytest.mark.parametrize("where", ["totals/000009-20261121T000000Z", "a backup/same", "backup/same",
                                   "drops/7", "drops/000007-20261121T000000Z"])  # fmt: skip
@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_in_the_wrong_place_spoils_nothing(tmp_path: Path, where: str, sealed: bool) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    if sealed and where != "drops/000007-20261121T000000Z":
        seal_journal(journal)
        journal = journal.with_suffix(".parquet")
    table, name = where.split("/")
    (folder / table).mkdir(exist_ok=True)
    name = journal.name if name == "same" else name + journal.suffix
    shutil.copy(journal, folder / table / name)
    for _ in range(2):  # then the other is a segment, and its journal gone
        recover(folder)
        assert [(s.table, s.rows) for s in Manifest.read(folder).segments] == [("drops", 3000)]
        with open_recording(folder) as recording:
            assert recording.sql("SELECT count(*) FROM drops").fetchall() == [(3000,)]
            assert [problem.path for problem in recording.problems] == [folder / table / name]


def test_a_part_of_a_sealed_journal_is_not_sealed_again(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    part = journal.with_name("000004-20261121T000000Z.journal")
    kept = tmp_path / "kept"
    kept.write_bytes(journal.read_bytes()[:-100])
    recover(folder)
    kept.rename(part)
    became = f"drops/{journal.with_suffix('.parquet').name}"
    for _ in range(2):
        (damage,) = recover(folder).damage
        assert damage == f"{part} is a copy of what became {became}, and was left alone"
    part.unlink()
    check_whole(folder)


def test_damage_is_not_taken_for_what_a_disk_budget_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    store = make_store(folder)
    store.append("counters", np.zeros(1, COUNTERS.dtype), OFFSET)
    store.close("test")
    manifest = Manifest.read(folder)
    (listed,) = manifest.segments
    manifest.state = "recording"
    manifest.write(folder)
    path = folder / listed.file
    path.write_bytes(path.read_bytes().replace(b"doc", b"cod"))
    recover(folder)
    assert Manifest.read(folder).segments == [listed]


def test_a_journal_that_cannot_be_read_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rec"
    second = crashed(folder)
    second = second.rename(second.with_name(second.name.replace("000001", "000002")))
    first = second.with_name(second.name.replace("000002", "000001"))
    writer = JournalWriter(first, drops_table())
    writer.append(numbered(9000, 10), OFFSET)
    writer.close()

    def refuse(journal: Path, started_ns: int) -> Sealed:
        if journal == first:
            raise OSError(errno.EIO, "Input/output error")
        return seal_journal(journal, started_ns)

    with monkeypatch.context() as patched:
        patched.setattr("droptape.recorder.recovery.seal_journal", refuse)
        with pytest.raises(RecoveryError, match=f"{first} cannot be recovered: Input/output error"):
            recover(folder)
    assert (first.exists(), second.exists()) == (True, False)
    recover(folder)
    check_whole(folder)
