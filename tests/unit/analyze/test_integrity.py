"""Files that are not those that the manifest lists: never counted, and never silently."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from droptape.analyze import RecordingError, integrity, open_recording
from droptape.analyze.app import app
from droptape.format.layout import MANIFEST
from droptape.format.manifest import Clock, Manifest, Removed
from unit.analyze.make import MONO, START, Maker
from unit.analyze.test_verify import LISTEN, moved, refusals, run, total

STAMP = "20231114T221320Z"


def recording(path: Path, **finish: Any) -> Path:
    maker = Maker(path)
    maker.symbols()
    maker.seal("listen", refusals(20))
    maker.seal("listen", refusals(30, start=11))
    maker.seal("counters", moved(50))
    maker.seal("totals", [total(50)])
    return maker.finish(**finish)


def killed(path: Path) -> Path:
    """A recording with a sealed file, one that was just sealed, and a journal."""
    maker = Maker(path)
    maker.symbols()
    maker.seal("listen", refusals(20))
    maker.seal("totals", [total(50)])
    maker.seal("listen", refusals(30, start=11))
    first = maker.segments[1]
    begin = START + 10 * 10**9
    maker.segments[1] = replace(first, first_ns=begin, last_ns=begin + 190_000_000)
    del maker.segments[-1]
    maker.journal("listen", [{**LISTEN, "at": 12}])
    return maker.finish(state="recording", ended_ns=None, ended_by="")


def file(folder: Path, number: int = 1, table: str = "listen") -> Path:
    (path,) = (folder / table).glob(f"{number:06d}-*")
    return path


def look(folder: Path) -> tuple[int, list[str], bool]:
    """Return the events that are seen, what is said, and whether all is said to be well."""
    with open_recording(folder) as rec:
        ((rows,),) = rec.sql("SELECT coalesce(sum(weight), 0) FROM listen").fetchall()
        return int(rows), [str(p) for p in rec.problems], rec.summary().completeness[1]


def remove(folder: Path) -> Path:
    file(folder).unlink()
    return file(folder, 2).with_name(f"000001-{STAMP}.parquet")


def double(folder: Path) -> Path:
    return Path(shutil.copy(file(folder), folder / "listen" / f"000777-{STAMP}.parquet"))


def second(folder: Path) -> Path:
    return Path(shutil.copy(file(folder, 2), folder / "listen" / "000001-20231114T221321Z.parquet"))


def rename(folder: Path) -> Path:
    return file(folder).rename(folder / "listen" / "foo.parquet")


def swap(folder: Path) -> Path:
    return Path(shutil.copy(file(folder, 1, "totals"), file(folder)))


def flip(folder: Path) -> Path:
    path = file(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    return path


def dangle(folder: Path) -> Path:
    path = file(folder)
    path.unlink()
    path.symlink_to("/nowhere")
    return path


def pipe(folder: Path) -> Path:
    path = file(folder)
    path.unlink()
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("change", "rows"),
    [(remove, 30), (double, 50), (second, 50), (rename, 30), (swap, 30), (flip, 30), (dangle, 30),
     (pipe, 30)],
)  # fmt: skip
def test_what_is_not_as_it_was_written(
    tmp_path: Path, change: Callable[[Path], Path], rows: int
) -> None:
    folder = recording(tmp_path / "r")
    assert look(folder) == (50, [], True)
    assert run(folder)[0] == 0
    changed = change(folder)
    found, problems, good = look(folder)
    assert found == rows
    assert any(str(changed) in text for text in problems), problems
    assert not good
    with open_recording(folder) as rec:
        bad = [f.subject for f in rec.verify().unexplained if f.part == "files"]
    assert bad.count(f"listen/{changed.name}") == 1
    assert len(bad) == len(set(bad))
    assert run(folder)[0] == 1


def test_many_missing_files_are_told_in_a_few_lines(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for second_ in range(15):
        maker.seal("listen", refusals(1, start=second_))
    folder = maker.finish()
    shutil.rmtree(folder / "listen")
    _, problems, _ = look(folder)
    assert len(problems) == 10
    assert problems[-1].endswith("nor are 5 more")


def test_a_segment_of_another_table_without_a_manifest(tmp_path: Path) -> None:
    folder = recording(tmp_path / "r")
    changed = swap(folder)
    (folder / MANIFEST).unlink()
    found, problems, _ = look(folder)
    assert found == 30
    assert f"{changed}: left out: it is a file of the table totals" in problems


def test_what_a_killed_recorder_leaves_is_no_problem(tmp_path: Path) -> None:
    folder = killed(tmp_path / "r")
    assert look(folder)[:2] == (51, [])
    shutil.copy(file(folder, 2), file(folder, 2).with_suffix(".journal"))  # not retired yet
    assert look(folder)[:2] == (51, [])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_copy_in_what_a_killed_recorder_left(tmp_path: Path, number: int) -> None:
    folder = killed(tmp_path / "r")
    path = file(folder, number)
    copy = shutil.copy(path, folder / "listen" / f"000009-{STAMP}{path.suffix}")
    found, problems, _ = look(folder)
    assert found == 51
    assert problems == [f"{copy}: left out: it is a copy of {path.name}"]


def test_a_journal_of_what_is_sealed_under_another_number(tmp_path: Path) -> None:
    folder = killed(tmp_path / "r")
    maker = Maker(tmp_path / "again")
    journal = maker.journal("listen", refusals(20)[:15])
    copy = shutil.copy(journal, folder / "listen" / f"000009-{STAMP}.journal")
    found, problems, _ = look(folder)
    assert found == 51
    assert problems == [f"{copy}: left out: it is a copy of {file(folder).name}"]


def test_a_journal_of_another_table(tmp_path: Path) -> None:
    folder = killed(tmp_path / "r")
    journal = Maker(tmp_path / "other").journal("resets", [{"at": 1, "direction": "sent"}])
    copy = shutil.copy(journal, folder / "listen" / f"000009-{STAMP}.journal")
    found, problems, _ = look(folder)
    assert found == 51
    assert problems == [f"{copy}: left out: it is a journal of the table resets"]


def test_what_the_manifest_calls_removed_is_not_read(tmp_path: Path) -> None:
    """The disk budget writes the manifest before it removes the files."""
    folder = recording(tmp_path / "r")
    manifest = Manifest.read(folder)
    manifest.removed["listen"] = Removed(1, 1, 20, 100, START, START + 1)
    manifest.segments = [s for s in manifest.segments if "listen/000001" not in s.file]
    manifest.write(folder)
    with open_recording(folder) as rec:
        assert rec.problems == []
        assert rec.sources[0].tables["listen"].rows == 30


@pytest.mark.parametrize("back", [True, False])
def test_removed_after_the_end(tmp_path: Path, back: bool) -> None:
    """That is so where the clock ran ahead and was set back, and nowhere else."""
    ahead = 30 * 86_400 * 10**9
    clocks = [Clock(MONO, START + ahead * back), Clock(MONO + 1, START + 1)]
    folder = recording(tmp_path / "r", clocks=clocks)
    manifest = Manifest.read(folder)
    manifest.removed["listen"] = Removed(1, 1, 20, 100, START, START + ahead)
    manifest.segments = [s for s in manifest.segments if "listen/000001" not in s.file]
    manifest.write(folder)
    with open_recording(folder) as rec:
        told = f"{folder / MANIFEST}: says that listen was removed up to a time after its end, "
        assert [str(p) for p in rec.problems] == ([] if back else [told + "which is not so"])
        assert rec.sources[0].removed_until == (START if back else None)


def test_files_that_move_on_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is read first: what goes or comes before the folders are read is in the next."""
    folder = recording(tmp_path / "r", state="recording", ended_ns=None)
    later = Manifest.read(folder)
    later.segments = [s for s in later.segments if "listen/000001" not in s.file]
    real = integrity.Integrity.compare

    def meanwhile(self: integrity.Integrity, *given: Any) -> None:
        if file(folder, 2).exists() and len(list((folder / "listen").iterdir())) == 2:
            later.write(folder)
            file(folder).unlink()
        real(self, *given)

    monkeypatch.setattr(integrity.Integrity, "compare", meanwhile)
    assert look(folder)[:2] == (30, [])


def test_large_files_of_events_are_left_to_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity.Allowance.__init__, "__defaults__", (0,))
    folder = recording(tmp_path / "r")
    with open_recording(folder) as rec:
        said, good = rec.summary().completeness
        assert good
        assert "droptape verify" in said
        assert "exact" not in said
    told = "2 files were not compared byte for byte: `droptape verify` does that."
    assert told in said
    for command in (["info"], ["diagnose"], ["report", "-o", str(tmp_path / "r.html")]):
        done = CliRunner().invoke(app, [*command, str(folder)])
        text = (tmp_path / "r.html").read_text() if "-o" in command else done.stdout
        assert told in " ".join(text.split()), command
    path = file(folder, 1, "totals")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    assert f"{path}: left out: it is not as it was written" in look(folder)[1][0]


def test_a_removal_in_the_future_hides_nothing(tmp_path: Path) -> None:
    far = Removed(9, 1, 20, 100, START, START + 10**17)
    folder = recording(tmp_path / "r", removed={"counters": far})
    found, problems, good = look(folder)
    assert (found, good) == (50, False)
    assert str(folder / MANIFEST) in problems[0]


@pytest.mark.parametrize("name", ["recorder.lock", MANIFEST])
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = recording(tmp_path / "r")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    found, problems, _ = look(folder)
    assert found == 50
    assert name in problems[0]
    assert "no regular file" in problems[0]
    code, said = run(folder)
    assert code == 1
    assert name in said


def test_a_pipe_is_no_bundle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.droptape")
    with pytest.raises(RecordingError, match="neither a recording's folder nor a bundle"):
        open_recording(tmp_path / "x.droptape").close()


def test_a_pipe_in_place_of_a_journal(tmp_path: Path) -> None:
    folder = killed(tmp_path / "r")
    path = file(folder, 3)
    path.unlink()
    os.mkfifo(path)
    found, problems, _ = look(folder)
    assert (found, problems) == (50, [f"{path}: is no regular file, left out"])


def test_a_declaration_that_is_nested_too_deep(tmp_path: Path) -> None:
    folder = recording(tmp_path / "r")
    (folder / MANIFEST).unlink()
    path = file(folder)
    rows = pq.read_table(path).replace_schema_metadata({"droptape.table": "[" * 100_000})
    pq.write_table(rows, path)
    found, problems, _ = look(folder)
    assert found == 30
    assert any(str(path) in text for text in problems)


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal("listen", refusals(3))
    path = maker.dictionary("marks", [{"ts": START, "text": "deploy", "source": "root"}])
    del maker.segments[-1]
    folder = maker.finish()
    assert look(folder)[1] == []
    path.write_bytes(path.read_bytes()[:-9])
    assert str(path) in look(folder)[1][0]


def damage_a_page(path: Path, compression: str) -> None:
    """Flip a bit of a time: with a checksum, as the recorder writes pages."""
    options = {"use_dictionary": False, "compression": compression, "data_page_version": "1.0"}
    pq.write_table(pq.read_table(path), path, write_page_checksum=True, **options)
    names = pq.read_schema(path).names
    column = pq.read_metadata(path).row_group(0).column(names.index("ts_ns"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 5] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("manifest", [True, False])
def test_a_damaged_page_of_what_no_manifest_lists(
    tmp_path: Path, compression: str, manifest: bool
) -> None:
    """DuckDB compares no checksums, and may refuse everything where it sees the damage."""
    folder = killed(tmp_path / "r")
    if not manifest:
        (folder / MANIFEST).unlink()
    path = file(folder, 2)
    damage_a_page(path, compression)
    found, problems, good = look(folder)
    assert (found, good) == (21, False)
    assert f"{path}: not readable, left out (" in problems[-1]
    with open_recording(folder) as rec:
        assert rec.top().fetchall()


def test_without_a_manifest_no_more_is_read_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity.Allowance.__init__, "__defaults__", (0,))
    folder = recording(tmp_path / "r")
    (folder / MANIFEST).unlink()
    damage_a_page(file(folder), "none")
    damage_a_page(file(folder, 1, "totals"), "none")
    with open_recording(folder) as rec:
        assert [p.path for p in rec.problems[1:]] == [file(folder, 1, "totals")]
        assert rec.sources[0].unchecked == 2


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_verify_without_a_manifest(tmp_path: Path, content: bytes | None) -> None:
    folder = recording(tmp_path / "r")
    (folder / MANIFEST).unlink()
    if content is not None:
        (folder / MANIFEST).write_bytes(content)
    code, said = run(folder)
    assert code == 1
    assert MANIFEST in said
    assert "do not balance" in said


def test_what_recovery_has_just_sealed_counts(tmp_path: Path) -> None:
    """The journal goes after the manifest lists what it became."""
    maker = Maker(tmp_path / "r")
    maker.seal("listen", refusals(20))
    maker.seal("listen", refusals(30, start=11))
    del maker.segments[-1]
    folder = maker.finish()
    journal = file(folder, 2).with_suffix(".journal")
    journal.touch()
    assert look(folder)[:2] == (50, [])
    journal.unlink()
    assert look(folder)[0] == 20


@pytest.mark.parametrize(("budget", "told"), [(None, 1), (1 << 30, 0)])
def test_only_a_disk_budget_replaces_files(tmp_path: Path, budget: int | None, told: int) -> None:
    maker = Maker(tmp_path / "rec")
    path = maker.seal("counters", moved(50))
    options = {"disk_budget": budget}
    maker.finish(state="recording", ended_ns=None, ended_by="", options=options)
    path.write_bytes(path.read_bytes().replace(b"doc", b"cod"))
    with open_recording(maker.path) as rec:
        assert [p.path for p in rec.problems] == [path] * told
