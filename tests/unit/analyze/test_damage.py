"""Truncation and corruption at any byte of any file: told with the file's name, and the rest reads.

The recording has sealed files, journals and a manifest. What is asked must end with an answer or
with one of droptape's own errors.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from droptape.analyze import open_recording
from droptape.analyze.source import load
from droptape.analyze.verify import Verdict, files_only
from droptape.format.errors import DroptapeError
from droptape.format.layout import MANIFEST
from unit.analyze.incident import DROPS
from unit.analyze.make import Maker
from unit.effort import EXAMPLES

EVENT = {"at": 1.0, "saddr": "10.0.0.7", "daddr": "10.0.0.2", "sport": 51034, "dport": 8080}
LISTEN = {**EVENT, "event": "accept_queue_full", "mechanism": "consume_skb", "lport": 8080}
TOTAL = {"at": 20, "kind": "drops", "cause": "NO_SOCKET", "events": 5, "recorded": 5}
TABLES = ("drops", "listen", "resets", "totals", "symbols")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    maker = Maker(tmp_path_factory.mktemp("whole") / "rec")
    maker.symbols()
    maker.seal("drops", DROPS[:2])
    maker.journal("drops", DROPS[2:4], DROPS[4:])
    maker.seal("listen", [LISTEN] * 3)
    maker.seal("resets", [{**EVENT, "direction": "sent"}] * 4)
    maker.seal("totals", [TOTAL])
    return maker.finish()


@pytest.fixture(scope="module")
def rows(whole: Path) -> dict[str, int | str]:
    return counts(whole)


def files_of(recording: Path) -> list[Path]:
    return sorted(p.relative_to(recording) for p in recording.rglob("*") if p.is_file())


def counts(recording: Path) -> dict[str, int | str]:
    """How many rows each table has; the text of the error where it cannot be read to its end."""
    found: dict[str, int | str] = {}
    with open_recording(recording) as rec:
        for table in TABLES:
            try:
                relation = rec.sql(f"SELECT * FROM {table}")
                found[table] = relation.to_arrow_table().num_rows
            except (DroptapeError, Exception) as exc:  # noqa: BLE001  DuckDB's own, while fetching
                found[table] = str(rec.explain(exc))
    return found


@pytest.mark.timeout(600)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=st.integers(0, 100), at=st.integers(0, 10**9), cut=st.booleans(), bit=st.integers(0, 7)
)
@example(which=5, at=645, cut=False, bit=0)  # a footer that Arrow reads and DuckDB does not
@example(which=3, at=9999998, cut=False, bit=0)  # a manifest with another name of a column
def test_one_damaged_file(
    whole: Path,
    rows: dict[str, int | str],
    tmp_path: Path,
    which: int,
    at: int,
    cut: bool,
    bit: int,
) -> None:
    folder = tmp_path / "rec"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    names = files_of(folder)
    name = names[which % len(names)]
    data = bytearray((folder / name).read_bytes())
    place = at % len(data)
    if cut:
        data = data[:place]
    else:
        data[place] ^= 1 << bit
    (folder / name).write_bytes(data)
    after: dict[str, int | str] = {}
    named: list[str] = []
    refused = ""
    try:
        after = counts(folder)
        with open_recording(folder) as rec:
            problems = [str(problem) for problem in rec.problems]
            if name.name == MANIFEST or not any(name.name in text for text in problems):
                findings = rec.verify().findings
                named = [f.subject for f in findings if f.verdict is Verdict.UNEXPLAINED]
    except DroptapeError as exc:
        refused = str(exc)
    if refused:
        assert name.name in refused
        assert "\n" not in refused
        return
    damaged = name.parent.as_posix()
    for table in TABLES:
        if table != damaged and damaged != ".":
            assert after[table] == rows[table], f"{table} after damage in {name}"
    if damaged != ".":
        # A flipped bit in a page is for `verify` to find, everything else is told at once.
        assert any(name.name in text for text in (*problems, *named)), name
    elif problems:
        assert MANIFEST in problems[0]
    else:
        json.loads((folder / MANIFEST).read_bytes())  # still a manifest, with another value


def test_no_damage_to_a_footer_ends_the_process(whole: Path, tmp_path: Path) -> None:
    """Without a manifest nothing is compared; asked for some statistics pyarrow calls abort(3)."""
    folder = tmp_path / "rec"
    shutil.copytree(whole, folder)
    (folder / MANIFEST).unlink()
    (path,) = folder.glob("drops/*.parquet")
    data = path.read_bytes()
    column = data.index(b"ip_version", data.index(b"ip_version") + 1)  # in the schema, of the chunk
    child = os.fork()
    if child == 0:
        for at in range(column - 20, column):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            load(folder, "rec")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_verify_alone_names_every_damaged_file(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    shutil.copytree(whole, folder)
    for name in files_of(folder):
        if name.name != MANIFEST:
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: len(data) // 2])
    found = files_only([load(folder, "rec")]).unexplained
    assert {f.subject for f in found} == {
        n.as_posix() for n in files_of(folder) if n.name != MANIFEST
    }


@pytest.mark.parametrize("said", ["/etc/passwd", "../other/drops/1", "drops/../../x", ".", ""])
def test_a_manifest_speaks_of_no_file_elsewhere(tmp_path: Path, said: str) -> None:
    maker = Maker(tmp_path / "rec")
    maker.seal("drops", DROPS)
    maker.symbols()
    maker.finish(damaged={said: "was lost"})
    with open_recording(tmp_path / "rec") as rec:
        assert [str(problem) for problem in rec.problems] == [f"{tmp_path / 'rec'}: was lost"]
        assert [f.why for f in rec.verify().unexplained if f.part == "files"] == ["was lost"]
        rec.bundle(tmp_path / "b.droptape")
    with open_recording(tmp_path / "b.droptape") as rec:
        assert [problem.text for problem in rec.problems] == ["was lost"]
