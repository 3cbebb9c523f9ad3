from __future__ import annotations

import dataclasses
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import droptape.format
import droptape.recorder
from droptape.analyze import open_recording
from droptape.format import layout
from droptape.format.errors import FormatError
from droptape.format.manifest import Manifest, Segment, sha256
from droptape.recorder import jobs, recovery
from droptape.recorder.host import host
from droptape.recorder.lock import FolderLock, LockedError
from droptape.recorder.recovery import needs_recovery, recover, recover_siblings
from droptape.recorder.seal import seal_journal

from .helpers import OFFSET, acks, make_store, numbered

TESTS = Path(__file__).parents[2]


def crashed(folder: Path, rows: int = 3000) -> Path:
    """Leave a recording as a kill leaves it; return its journal."""
    child = os.fork()
    if child == 0:
        store = make_store(folder)
        for first in range(0, rows, 500):
            store.append("drops", numbered(first, 500), OFFSET)
        os._exit(0)
    os.waitpid(child, 0)
    (journal,) = folder.glob("drops/*.journal")
    return journal


def check_whole(folder: Path) -> None:
    """Every file is listed, opens, and fits its checksum; nothing half-made is left."""
    manifest = Manifest.read(folder)
    files = {f"{p.parent.name}/{p.name}" for p in folder.glob("*/*.parquet")}
    assert files == {s.file for s in manifest.segments}
    assert len(manifest.segments) == len(files)
    for segment in manifest.segments:
        path = folder / segment.file
        read = pq.ParquetFile(path, page_checksum_verification=True).read()
        assert (read.num_rows, sha256(path)) == (segment.rows, segment.sha256)
    assert not list(folder.glob("*/*.journal"))
    assert not [p for p in folder.rglob(".*") if p.name != ".gitkeep"]


def kill_one(folder: Path, delay: float) -> int:
    """Run a recorder, kill it after `delay` of work; return how many rows it acknowledged."""
    portions = [
        str(Path(next(iter(m.__path__))).parents[1]) for m in (droptape.format, droptape.recorder)
    ]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *portions])}
    command = [sys.executable, "-m", "unit.recorder.victim", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as victim:
        assert victim.stdout is not None
        acknowledged = victim.stdout.read(8)
        time.sleep(delay)
        victim.kill()
        acknowledged += victim.stdout.read()
    return int.from_bytes(acknowledged[-8:], "little")


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    dice = random.Random(2)
    sealed = unsealed = 0
    for turn in range(8):
        folder = tmp_path / f"rec{turn}"
        acknowledged = kill_one(folder, dice.uniform(0, 0.5))
        unsealed += any(folder.glob("drops/*.journal"))
        report = recover(folder)
        assert report.killed
        rows = acks(folder)
        # One more batch can be on disk: the kill came before it was acknowledged.
        assert len(rows) - acknowledged in (0, 4000)
        assert rows == list(range(len(rows)))
        check_whole(folder)
        assert Manifest.read(folder).state == "recovered"
        sealed += len(Manifest.read(folder).segments)
        shutil.rmtree(folder)
    assert sealed > 8
    assert unsealed > 0


def test_recovery_is_told_and_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    crashed(folder)
    assert needs_recovery(folder)
    report = recover(folder)
    assert (report.killed, report.journals, report.rows, report.damage) == (True, 1, 3000, [])
    manifest = Manifest.read(folder)
    assert "3000 rows were recovered" in manifest.notes[-1]
    assert manifest.ended_ns == manifest.segments[0].last_ns
    assert not needs_recovery(folder)
    before = (folder / layout.MANIFEST).read_bytes()
    again = recover(folder)
    assert (again.killed, again.journals) == (False, 0)
    assert (folder / layout.MANIFEST).read_bytes() == before
    check_whole(folder)


class Killed(BaseException):
    """Stands for the end of the process at one point."""


@pytest.mark.parametrize("point", ["ledger.save", "journal.unlink", "after"])
def test_a_kill_of_the_recovery_itself_is_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    retire = jobs.record_and_retire

    def stop(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if point == "ledger.save":
            patch.setattr("droptape.recorder.ledger.write_atomic", stop)
        elif point == "journal.unlink":
            unlink = Path.unlink

            def spare(self: Path, missing_ok: bool = False) -> None:
                if self.suffix == ".journal":
                    raise Killed
                unlink(self, missing_ok)

            patch.setattr(Path, "unlink", spare)
        else:

            def then_stop(*args: object) -> None:
                retire(*args)  # type: ignore[arg-type]
                raise Killed

            patch.setattr("droptape.recorder.recovery.record_and_retire", then_stop)
        with pytest.raises(Killed):
            recover(folder)
    if point != "after":
        assert journal.exists()
    assert acks(folder) == list(range(3000)), "a reader meanwhile sees each row once"
    recover(folder)
    assert acks(folder) == list(range(3000))
    check_whole(folder)


def test_stale_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    (journal.parent / f".{journal.stem}.parquet").write_bytes(b"half")
    (folder / f".{layout.MANIFEST}.abc").write_bytes(b"half")
    recover(folder)
    check_whole(folder)


def test_a_segment_renamed_but_not_recorded_is_adopted(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    seal_journal(journal)
    journal.unlink()
    recover(folder)
    check_whole(folder)
    (segment,) = Manifest.read(folder).segments
    assert segment.rows == 3000
    assert segment.first_ns is not None


def test_recovery_looks_at_each_of_many_files_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, files = tmp_path / "rec", 200
    make_store(folder).close("test")
    (folder / "totals").mkdir()
    manifest = Manifest.read(folder)
    for number in range(files):
        path = folder / "totals" / f"{number + 1:06d}-20261121T000000Z.parquet"
        path.touch()
        name = f"totals/{path.name}"
        manifest.segments.append(Segment("totals", name, 0, None, None, 0, sha256(path)))
    manifest.state = "recording"
    manifest.write(folder)
    looks = 0

    class Name(str):
        def startswith(self, *given: object) -> bool:
            nonlocal looks
            looks += 1
            return super().startswith(*given)  # type: ignore[arg-type]

    real = Manifest.read(folder)
    for segment in real.segments:
        segment.file = Name(segment.file)
    monkeypatch.setattr(Manifest, "read", lambda folder: real)
    assert recover(folder).damage == []
    assert looks < 10 * files


def test_a_broken_segment_beside_its_journal_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    target = journal.with_suffix(".parquet")
    target.write_bytes(b"PAR1 not really")
    recover(folder)
    assert acks(folder) == list(range(3000))
    check_whole(folder)
    assert list(folder.glob("drops/*.parquet.damaged"))


def test_a_damaged_journal_gives_what_is_readable_and_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    data = bytearray(journal.read_bytes())
    data[-100] ^= 4  # in the last of six batches
    journal.write_bytes(data)
    report = recover(folder)
    assert report.rows == 2500
    assert "checksum wrong at byte" in report.damage[0]
    assert acks(folder) == list(range(2500))
    kept = journal.with_name(journal.name + ".damaged")
    assert kept.read_bytes() == bytes(data)
    check_whole(folder)
    assert recover(folder).journals == 0
    ((file, said),) = Manifest.read(folder).damaged.items()
    assert file == f"drops/{journal.name}"
    assert said.startswith("2,500 rows read; checksum wrong at byte")
    kept.unlink()
    with open_recording(folder) as recording:
        assert [str(problem) for problem in recording.problems] == [f"{folder / file}: {said}"]
        assert recording.summary().completeness[0].startswith("No loss is known of, but not every")
        assert [f.why for f in recording.verify().unexplained if f.part == "files"] == [said]


def test_a_frame_that_a_kill_cut_off_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    journal.write_bytes(journal.read_bytes()[:-100])
    assert recover(folder).rows == 2500
    manifest = Manifest.read(folder)
    assert not manifest.damaged
    assert any("2,500 rows read; cut off at byte" in note for note in manifest.notes)


def test_a_journal_without_header_is_kept_and_an_empty_one_goes(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    journal = crashed(folder)
    header_lost = journal.with_name(journal.name.replace("000001", "000002"))
    header_lost.write_bytes(b"DROPTAPE\0\0\0\0")
    empty = journal.with_name(journal.name.replace("000001", "000003"))
    empty.touch()
    report = recover(folder)
    assert len(report.damage) == 1
    assert header_lost.with_name(header_lost.name + ".damaged").exists()
    assert not empty.exists()
    assert any(f"{empty.name} was empty" in note for note in Manifest.read(folder).notes)
    assert acks(folder) == list(range(3000))
    check_whole(folder)


def test_a_running_recording_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "live")
    store.append("drops", numbered(0, 10), OFFSET)
    with pytest.raises(LockedError, match="running droptape-record"):
        recover(tmp_path / "live")
    assert recover_siblings(tmp_path) == ([], [])
    assert Manifest.read(tmp_path / "live").state == "recording"
    store.close("test")


def test_siblings_of_a_new_recording_are_recovered(tmp_path: Path) -> None:
    crashed(tmp_path / "old")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("old")
    elsewhere = tmp_path / "elsewhere"
    crashed(elsewhere)
    manifest = Manifest.read(elsewhere)
    manifest.host.name = "another-host"
    manifest.host.machine_id = "another id"
    manifest.write(elsewhere)
    store = make_store(tmp_path / "new")
    reports, failures = recover_siblings(tmp_path)
    assert [r.folder.name for r in reports] == ["old"]
    assert failures == []
    assert Manifest.read(elsewhere).state == "recording"
    store.close("test")


def test_the_recordings_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = crashed(tmp_path / "old")
    monkeypatch.setattr("droptape.recorder.recovery.os.geteuid", lambda: os.getuid() + 1)
    assert recover_siblings(tmp_path) == ([], [])
    assert journal.exists()


def test_no_recording_no_recovery(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a recording"):
        recover(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_replaced_is_not_intact(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.intact()
    (tmp_path / layout.LOCK).rename(tmp_path / "away")
    assert not lock.intact()
    (tmp_path / layout.LOCK).touch()
    assert not lock.intact()
    lock.release()
    assert (tmp_path / layout.LOCK).exists()


def test_an_odd_sibling_keeps_none_from_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = [tmp_path / name for name in ("a-odd", "b-vanishes", "c-whole")]
    for folder in killed:
        crashed(folder)

    def odd(folder: Path) -> recovery.Report:
        if folder == killed[0]:
            raise MemoryError("no memory")
        if folder == killed[1]:
            raise FileNotFoundError(folder)
        return recover(folder)

    monkeypatch.setattr(recovery, "recover", odd)
    reports, failures = recover_siblings(tmp_path)
    assert [report.folder for report in reports] == [killed[2]]
    assert len(failures) == 1
    assert "a-odd" in failures[0]


def test_a_lock_that_cannot_be_seen_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FolderLock(tmp_path)

    def refuse(_path: Path) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", refuse)
        assert lock.intact()
    lock.release()
    assert not lock.intact()


@pytest.mark.parametrize(
    ("name", "machine_id", "ours"),
    [("another name", "the same", True), ("the same", "another id", False), ("the same", "", True),
     ("another name", "", False)],
)  # fmt: skip
def test_a_host_that_was_renamed_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, machine_id: str, ours: bool
) -> None:
    crashed(tmp_path / "rec")
    here = dataclasses.replace(host(), machine_id="the same")
    manifest = Manifest.read(tmp_path / "rec")
    manifest.host = dataclasses.replace(
        here, name=here.name if name == "the same" else name, machine_id=machine_id
    )
    manifest.write(tmp_path / "rec")
    monkeypatch.setattr(recovery, "host", lambda: here)
    reports, failures = recover_siblings(tmp_path)
    assert (len(reports), failures) == (int(ours), [])


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    reports, (failure,) = recover_siblings(tmp_path / "none")
    assert reports == []
    assert "was not searched" in failure
