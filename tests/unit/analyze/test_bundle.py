# ruff: noqa: E501
from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from droptape.analyze import QueryError, Recording, RecordingError, open_recording
from droptape.analyze.app import app
from droptape.analyze.bundle.tables import whole
from droptape.analyze.bundle.thin import shares, thin
from droptape.analyze.source import load
from unit.analyze.incident import CLIENT, OVERFLOW, RETRANSMITS, SERVER, explain
from unit.analyze.make import START, SYMBOLS, Maker

SUMS = """
    SELECT kind, cause, port, owner_comm, function, benign, sum(amount) AS events
    FROM events GROUP BY ALL ORDER BY ALL"""


def storm(folder: Path, rows: int = 30_000) -> Path:
    """Many drops of few kinds, a few retransmits, exact totals for both."""
    maker = Maker(folder)
    drops = [
        {**CLIENT, **SERVER, **OVERFLOW, "at": i * 50 / rows, "weight": 1 + i % 3,
         "saddr": f"10.{i % 7}.{i * 7919 % 251}.{i * 104729 % 241}", "sport": 10_000 + i * 31 % 50_000,
         "seq": i * 2654435761 % 2**32, "ack": i * 40503 % 2**32}
        for i in range(rows)
    ]  # fmt: skip
    for at in range(0, rows, 10_000):
        maker.seal("drops", drops[at : at + 10_000])
    maker.journal("drops", [{**CLIENT, "at": 55, "reason": "NO_SOCKET", "location": 0x1200}])
    maker.seal("retransmits", RETRANSMITS)
    seconds: list[dict[str, Any]] = []
    for second in range(1, 61):
        inside = [d["weight"] for d in drops if second - 1 < d["at"] <= second]
        if inside:
            total = {"at": second, "kind": "drops", "cause": "TCP_LISTEN_OVERFLOW",
                     "location": 0x108C, "netns": SERVER["netns"]}  # fmt: skip
            seconds.append({**total, "events": sum(inside), "recorded": sum(inside)})
    maker.seal("totals", seconds)
    explain(maker)
    return maker.finish()


@pytest.fixture(scope="module")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return storm(tmp_path_factory.mktemp("bundles") / "storm")


@pytest.fixture(scope="module")
def thinned(stormy: Path) -> Path:
    with open_recording(stormy) as rec:
        return rec.bundle(stormy.parent / "thin.droptape", max_size=500_000)


def rows(rec: Recording, sql: str) -> list[tuple[Any, ...]]:
    return rec.sql(sql).fetchall()


def test_a_bundle_answers_as_the_recording_does(
    incident: Path, rec: Recording, tmp_path: Path
) -> None:
    made = rec.bundle(tmp_path / "x.droptape")
    with open_recording(made) as bundled:
        assert bundled.problems == []
        for table in rec.event_tables:
            for sql in (f"SELECT * EXCLUDE (recording) FROM {table} ORDER BY ALL",):
                assert rows(bundled, sql) == rows(rec, sql)
        for table in ("totals", "losses", "processes", "cgroups", "netns", "reasons", "sysctls"):
            if table in rec.views:
                sql = f"SELECT * EXCLUDE (recording) FROM {table} ORDER BY ALL"
                assert rows(bundled, sql) == rows(rec, sql)
        theirs, ours = bundled.summary(), rec.summary()
        assert theirs.causes == ours.causes
        assert theirs.kinds == ours.kinds
        assert bundled.info().recordings[0].host == rec.info().recordings[0].host
        assert bundled.info().recordings[0].path == str(made)


def test_every_command_takes_a_bundle(rec: Recording, tmp_path: Path) -> None:
    made = rec.bundle(tmp_path / "x.droptape")
    run = CliRunner()
    for command in (["summary"], ["info"], ["verify"], ["top"], ["timeline"], ["symbolize"]):
        result = run.invoke(app, [*command, str(made)])
        assert result.exit_code in (0, 1), (command, result.output)
    result = run.invoke(app, ["query", str(made), "SELECT count(*) FROM drops", "-f", "csv"])
    assert result.exit_code == 0
    both = ["top", str(tmp_path / "*.droptape"), str(rec.sources[0].path), "--by", "recording"]
    assert run.invoke(app, both).output.count("x.droptape") == 1


def test_the_command_says_what_it_made(incident: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.droptape"
    result = CliRunner().invoke(app, ["bundle", str(incident), "-o", str(target)])
    assert result.exit_code == 0, result.output
    assert "y.droptape: " in result.output
    assert zipfile.ZipFile(target).namelist()[:3] == [
        "bundle.json",
        "recording.json",
        "report.html",
    ]


def test_the_same_content_gives_the_same_bytes(stormy: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = []
    for number in range(2):
        with open_recording(stormy) as rec:
            path = tmp_path / f"{number}.droptape"
            made.append(rec.bundle(path, max_size=500_000, redact=True, key=key).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("redact", [False, True])
def test_a_bundle_says_what_could_not_be_read(
    incident: Path, tmp_path: Path, *, redact: bool
) -> None:
    shutil.copytree(incident, tmp_path / "damaged")
    broken = min((tmp_path / "damaged/drops").glob("*.parquet"))
    data = bytearray(broken.read_bytes())
    data[100] ^= 16
    broken.write_bytes(data)
    (tmp_path / "damaged/drops/secret plan.parquet").touch()
    with open_recording(tmp_path / "damaged") as rec:
        left_out = {problem.path.name: problem.text for problem in rec.problems}
        assert list(left_out) == ["secret plan.parquet", broken.name]
        rec.bundle(tmp_path / "b.droptape", redact=redact)
    with open_recording(tmp_path / "b.droptape") as rec:
        assert [problem.text for problem in rec.problems] == list(left_out.values())
        names = [problem.path.name for problem in rec.problems]
        assert names == ["stray-1" if redact else "secret plan.parquet", broken.name]
        assert len(rec.summary().info.problems) == 2
        rec.bundle(tmp_path / "again.droptape")
    with open_recording(tmp_path / "again.droptape") as rec:
        assert len(rec.problems) == 2
    with zipfile.ZipFile(tmp_path / "b.droptape") as archive:
        report = archive.read("report.html").decode()
    assert "SHA-256 differs" in report


def test_a_bundle_of_a_bundle(rec: Recording, tmp_path: Path) -> None:
    first = rec.bundle(tmp_path / "1.droptape")
    with open_recording(first) as bundled:
        second = bundled.bundle(tmp_path / "2.droptape")
    with open_recording(second) as again:
        assert rows(again, SUMS) == rows(rec, SUMS)


def test_nothing_is_left_when_it_cannot_be_written(rec: Recording, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="--max-size 1"):
        rec.bundle(tmp_path / "x.droptape", max_size=1000)
    with pytest.raises(QueryError, match="cannot be written"):
        rec.bundle(tmp_path / "missing" / "x.droptape")
    assert list(tmp_path.iterdir()) == []


def test_what_just_fits_is_made(tmp_path: Path) -> None:
    with open_recording(Path(__file__).parents[3] / "notebooks/recordings/incident") as rec:
        with pytest.raises(QueryError, match="a few events take") as refused:
            rec.bundle(tmp_path / "x.droptape", max_size=1000)
        said = re.search(r"take ([\d.]+) kB", str(refused.value))
        assert said
        room = round(float(said[1]) * 1000 * 1.03)
        made = rec.bundle(tmp_path / "x.droptape", max_size=room)
        assert made.stat().st_size <= room


def test_one_recording_only(incident: Path, stormy: Path, tmp_path: Path) -> None:
    with open_recording(incident, stormy) as rec, pytest.raises(QueryError, match="one recording"):
        rec.bundle(tmp_path / "x.droptape")


# --- thinning ------------------------------------------------------------------------------------


def test_thinning_keeps_every_sum(stormy: Path, thinned: Path) -> None:
    assert thinned.stat().st_size <= 500_000
    with open_recording(stormy) as rec, open_recording(thinned) as small:
        before, after = (rows(r, "SELECT count(*) FROM drops")[0][0] for r in (rec, small))
        assert before == 30_001
        assert 1000 < after < before / 2
        assert rows(small, SUMS) == rows(rec, SUMS)
        totals = "SELECT * EXCLUDE (recording) FROM totals ORDER BY ALL"
        assert rows(small, totals) == rows(rec, totals)
        assert rows(small, "SELECT count(*) FROM retransmits") == [(2,)]


def test_thinning_is_right_over_time_and_fair(stormy: Path, thinned: Path) -> None:
    by_second = "SELECT floor(epoch_ns(ts) / 1e9), sum(weight) FROM drops GROUP BY 1 ORDER BY 1"
    by_net = "SELECT split_part(saddr, '.', 2), sum(weight) FROM drops GROUP BY 1 ORDER BY 1"
    with open_recording(stormy) as rec, open_recording(thinned) as small:
        for (second, exact), (same, about) in zip(
            rows(rec, by_second), rows(small, by_second), strict=True
        ):
            assert second == same
            assert abs(exact - about) < 0.05 * exact + 20
        for (net, exact), (same, about) in zip(rows(rec, by_net), rows(small, by_net), strict=True):
            assert net == same
            assert abs(exact - about) < 0.15 * exact


def test_thinning_is_said(thinned: Path) -> None:
    with open_recording(thinned) as small:
        (note,) = small.info().recordings[0].notes
        assert "drops:" in note
        assert "of 30,001 rows" in note
        assert note in small.report(thinned.parent / "r.html").read_text().replace("&#x27;", "'")
    index = json.loads(zipfile.ZipFile(thinned).read("bundle.json"))
    assert index["sampled"]["drops"]["of"] == 30_001
    assert list(index["sampled"]) == ["drops"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=300),
    st.integers(1, 100), st.integers(0, 9),
)  # fmt: skip
def test_thin_keeps_sums_and_order(drawn: list[tuple[int, int]], budget: int, seed: int) -> None:
    table = pa.table(
        {
            "ts_ns": pa.array(range(len(drawn)), pa.int64()),
            "cause": pa.array([str(kind) if kind else None for kind, _ in drawn]),
            "weight": pa.array([weight for _, weight in drawn], pa.int64()),
        }
    )
    kept = thin(table, ["cause"], budget, seed)
    kinds = {kind for kind, _ in drawn}
    if len(kinds) <= budget:
        for kind in kinds:
            name = str(kind) if kind else None
            sums = [
                sum(r["weight"] for r in t.to_pylist() if r["cause"] == name) for t in (table, kept)
            ]
            assert sums[0] == sums[1]
    assert sum(kept["weight"].to_pylist()) == sum(table["weight"].to_pylist())
    times = kept["ts_ns"].to_pylist()
    assert times == sorted(set(times))
    assert kept.num_rows <= max(budget, 1)
    assert kept.equals(thin(table, ["cause"], budget, seed))


def test_thin_draws_by_weight() -> None:
    """A row that stands for many is kept more often: an estimate over it is right on average."""
    table = pa.table(
        {
            "ts_ns": pa.array(np.arange(40_000)),
            "weight": pa.array(np.where(np.arange(40_000) % 10 == 0, 91, 1)),
            "heavy": pa.array(np.arange(40_000) % 10 == 0),
        }
    )
    kept = thin(table, [], 2000, 1)
    heavy = sum(r["weight"] for r in kept.to_pylist() if r["heavy"])
    assert heavy / sum(kept["weight"].to_pylist()) == pytest.approx(0.91, abs=0.02)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1000), min_size=1),
    st.integers(6, 3000),
)
def test_shares(counts: dict[str, int], budget: int) -> None:
    found = shares(counts, budget)
    assert all(found[name] <= counts[name] for name in counts)
    assert sum(found.values()) <= budget
    least = min((found[n] for n in counts if found[n] < counts[n]), default=None)
    assert least is None or max(found.values()) == least


# --- a span of time ------------------------------------------------------------------------------


def test_a_span_agrees_with_its_totals(stormy: Path, tmp_path: Path) -> None:
    with open_recording(stormy) as rec:
        made = rec.bundle(tmp_path / "x.droptape", start="+10.4s", end="+19.5s")
    with open_recording(made) as part:
        first, last, weight = rows(
            part, "SELECT min(epoch_ns(ts)), max(epoch_ns(ts)), sum(weight) FROM drops"
        )[0]
        assert START + 10e9 <= first <= START + 10.01e9
        assert START + 19.9e9 <= last <= START + 20e9
        assert abs(rows(part, "SELECT sum(recorded) FROM totals")[0][0] - weight) <= 3
        info = part.info().recordings[0]
        assert info.started_ns == START + 10 * 10**9
        assert any("A part of a longer recording" in note for note in info.notes)
        assert rows(part, "SELECT count(*) FROM retransmits") == [(2,)]


def test_a_part_that_is_asked_is_bundled(stormy: Path, tmp_path: Path) -> None:
    with open_recording(stormy, start="+10s", end="+20s") as rec:
        made = rec.bundle(tmp_path / "x.droptape")
    with open_recording(made) as part:
        assert rows(part, "SELECT max(epoch_ns(ts)) FROM drops")[0][0] <= START + 20e9


def test_only_symbols_that_occur(stormy: Path, thinned: Path) -> None:
    with open_recording(stormy) as rec, open_recording(thinned) as small:
        assert rows(rec, "SELECT count(*) FROM symbols") == [(len(SYMBOLS),)]
        assert rows(small, "SELECT name FROM symbols") == [("tcp_v4_rcv",)]
        function = "SELECT DISTINCT function FROM drops"
        assert rows(small, function) == rows(rec, function) == [("tcp_v4_rcv",)]


def test_the_files_have_page_checksums_and_their_declaration(
    rec: Recording, tmp_path: Path
) -> None:
    archive = zipfile.ZipFile(rec.bundle(tmp_path / "x.droptape"))
    (name,) = (n for n in archive.namelist() if n.startswith("drops/"))
    data = archive.read(name)
    file = pq.ParquetFile(io.BytesIO(data))
    assert json.loads(file.metadata.metadata[b"droptape.table"])["name"] == "drops"
    column = file.metadata.row_group(0).column(0)
    first = column.dictionary_page_offset or column.data_page_offset
    spoiled = bytearray(data)
    spoiled[first + column.total_compressed_size - 1] ^= 1  # of a page; headers have no checksum
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(io.BytesIO(bytes(spoiled)), page_checksum_verification=True).read()


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    plain = tmp_path / "notes.txt"
    plain.write_text("hello")
    with pytest.raises(RecordingError, match="neither a recording's folder nor a bundle"):
        open_recording(plain)


def test_what_is_sealed_while_it_is_bundled_goes_in(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "rec")
    journal = maker.journal("drops", [{**CLIENT, "at": 5}] * 3)
    source = load(maker.finish(), "rec")
    table = source.tables["drops"].table
    rows = whole(source, table)
    pq.write_table(rows, journal.with_suffix(".parquet"))
    journal.unlink()
    assert whole(source, table).num_rows == rows.num_rows == 3
