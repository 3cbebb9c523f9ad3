from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from droptape.analyze import QueryError, RecordingError, open_recording, source
from droptape.analyze.origin import Folders
from droptape.analyze.recording import Recording
from droptape.format.journal import JournalReader
from droptape.format.layout import LOCK, MANIFEST
from droptape.format.manifest import Manifest, Removed
from unit.analyze.incident import DROPS, make_incident
from unit.analyze.make import Maker

COUNT = "SELECT count(*) FROM drops"


def half_sealed(path: Path) -> Maker:
    maker = Maker(path)
    maker.seal("drops", DROPS[:2])
    maker.journal("drops", DROPS[2:4], DROPS[4:])
    maker.symbols()
    maker.finish(state="recording", ended_ns=None, ended_by="")
    return maker


def test_a_running_recording_is_read_with_its_journals(tmp_path: Path) -> None:
    maker = half_sealed(tmp_path / "r")
    with (maker.path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open_recording(maker.path) as rec:
            assert rec.sql(COUNT).fetchall() == [(5,)]
            one = rec.info().recordings[0]
            names = rec.sql("SELECT function, saddr FROM drops ORDER BY ts").fetchall()
    assert one.state == "recording"
    assert one.completeness == "still recording; 3 rows come from journals that are not sealed"
    assert (one.ended_ns or 0) - (one.started_ns or 0) == 40_000_000_000
    assert names[3] == ("nft_do_chain", "2001:db8::7")


def test_a_killed_recording_says_so_and_gives_whole_frames(tmp_path: Path) -> None:
    maker = half_sealed(tmp_path / "r")
    (journal,) = (maker.path / "drops").glob("*.journal")
    journal.write_bytes(journal.read_bytes()[:-3])
    with open_recording(maker.path) as rec:
        assert rec.sql(COUNT).fetchall() == [(4,)]
        info = rec.info()
        (problem,) = rec.problems
    assert info.recordings[0].state == "interrupted"
    assert "did not end in order" in info.recordings[0].completeness
    assert "2 rows come from journals" in info.recordings[0].completeness
    assert problem.path == journal
    assert problem.text.startswith("cut off at byte")


def test_half_a_frame_is_no_problem_while_recording(tmp_path: Path) -> None:
    maker = half_sealed(tmp_path / "r")
    (journal,) = (maker.path / "drops").glob("*.journal")
    journal.write_bytes(journal.read_bytes()[:-3])
    with (maker.path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open_recording(maker.path) as rec:
            assert rec.problems == []
            assert rec.sql(COUNT).fetchall() == [(4,)]


def test_a_sealed_file_counts_and_its_journal_not(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    sealed = maker.seal("drops", DROPS[:3])
    journal = maker.journal("drops", DROPS[:3])
    journal.rename(sealed.with_suffix(".journal"))
    with open_recording(maker.finish()) as rec:
        assert rec.sql(COUNT).fetchall() == [(3,)]


def test_a_journal_sealed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = half_sealed(tmp_path / "r")
    (journal,) = (maker.path / "drops").glob("*.journal")

    def seal_first(path: Path) -> JournalReader:
        # The recorder seals between the listing and the reading.
        if path == journal and path.exists():
            table = JournalReader(path).read()
            pq.write_table(table, path.with_suffix(".parquet"))
            path.unlink()
        return JournalReader(path)

    monkeypatch.setattr(source, "JournalReader", seal_first)
    with open_recording(maker.path) as rec:
        assert rec.problems == []
        assert rec.sql(COUNT).fetchall() == [(5,)]
        assert rec.info().recordings[0].tables[0].journal_rows == 0


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_damaged_segment_leaves_the_rest_readable(tmp_path: Path, keep: int) -> None:
    path = make_incident(tmp_path / "r")
    broken = min((path / "drops").iterdir())
    broken.write_bytes(broken.read_bytes()[:keep])
    with open_recording(path) as rec:
        assert rec.sql(COUNT).fetchall() == [(2,)]
        assert rec.sql("SELECT count(*) FROM listen").fetchall() == [(10,)]
        (problem,) = rec.problems
    assert problem.path == broken
    assert "not readable, left out" in str(problem)
    assert str(problem).count(str(broken)) == 1


def test_a_damaged_dictionary_costs_names_only(tmp_path: Path) -> None:
    path = make_incident(tmp_path / "r")
    for table in ("symbols", "cgroups", "netns"):
        for file in (path / table).iterdir():
            file.write_bytes(b"PAR1")
    with open_recording(path) as rec:
        assert rec.sql("SELECT DISTINCT function, container FROM drops").fetchall() == [
            (None, None)
        ]
        assert len(rec.problems) == 3


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff"])
def test_tables_are_read_without_a_manifest(tmp_path: Path, content: bytes | None) -> None:
    path = make_incident(tmp_path / "r")
    (path / MANIFEST).unlink()
    if content is not None:
        (path / MANIFEST).write_bytes(content)
    with open_recording(path) as rec:
        assert rec.sql("SELECT count(*), max(function) FROM drops").fetchall() == [
            (5, "tcp_v4_rcv")
        ]
        assert MANIFEST in str(rec.problems[0])
        assert rec.info().recordings[0].state == "unknown"
        assert rec.summary().events > 0


def test_a_recording_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = make_incident(tmp_path / "r")
    (path / MANIFEST).write_bytes(b'{"format_version": 2}')
    newer = r"written by a newer droptape \(format version 2\): update droptape$"
    with pytest.raises(RecordingError, match=newer):
        open_recording(path).close()


def test_a_journal_alone_is_readable(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.journal("drops", DROPS)
    with open_recording(maker.path) as rec:
        assert rec.sql(COUNT).fetchall() == [(5,)]


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match=r"empty is not a recording: it has no recording.json"):
        open_recording(tmp_path / "empty")
    with pytest.raises(RecordingError, match="file is neither a recording's folder nor a bundle"):
        open_recording(tmp_path / "file")
    with pytest.raises(RecordingError, match="nothing does not exist"):
        open_recording(tmp_path / "nothing")
    with pytest.raises(RecordingError, match="no recording matches"):
        open_recording(str(tmp_path / "no*"))
    with pytest.raises(RecordingError, match="no recording given"):
        open_recording()


def test_globs_and_folders_of_recordings(tmp_path: Path, incident: Path) -> None:
    shutil.copytree(incident, tmp_path / "one")
    shutil.copytree(incident, tmp_path / "two")
    with open_recording(str(tmp_path / "*"), tmp_path / "one") as rec:
        assert [s.name for s in rec.sources] == ["one", "two"]
    with pytest.raises(RecordingError, match="not a recording but holds 2"):
        open_recording(tmp_path)


def test_one_unreadable_recording_does_not_take_the_others_down(
    tmp_path: Path, incident: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with open_recording(incident, tmp_path / "empty") as rec:
        assert rec.sql(COUNT).fetchall() == [(5,)]
        assert str(tmp_path / "empty") in str(rec.problems[0])


def remove_the_first(recording: Path) -> None:
    """As a recorder that keeps a disk budget."""
    manifest = Manifest.read(recording)
    first = next(s for s in manifest.segments if s.table == "drops")
    manifest.segments.remove(first)
    manifest.removed["drops"] = Removed(1, 1, first.rows, first.bytes, 0, 0)
    manifest.write(recording)
    (recording / first.file).unlink()


def test_what_is_removed_while_it_is_opened_is_not_asked(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal("drops", DROPS[:2])
    maker.seal("drops", DROPS[2:])
    origin = Folders([source.load(maker.finish(), "r")])
    remove_the_first(maker.path)
    with Recording(origin) as rec:
        assert rec.sql(COUNT).fetchall() == [(len(DROPS) - 2,)]
        assert rec.problems == []
        remove_the_first(maker.path)
        with pytest.raises(QueryError, match="changed while it was read: ask again"):
            rec.sql("SELECT saddr FROM drops")
        with pytest.raises(QueryError, match="there is no table dropz"):
            rec.sql("SELECT saddr FROM dropz")
