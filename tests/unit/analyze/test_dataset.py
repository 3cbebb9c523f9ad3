from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from duckdb import DuckDBPyRelation

from droptape.analyze import QueryError, Recording, RecordingError, archive, diff, open_recording
from droptape.analyze.dataset import store as stores
from droptape.format.manifest import Manifest
from unit.analyze.fleet import change, make_fleet, make_host
from unit.analyze.incident import make_incident
from unit.analyze.make import START, Maker

DAY = 86_400


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_fleet(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def folder(fleet: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dataset")
    done = archive([str(path) for path in fleet], str(made))
    assert len(done.added) == 3
    assert not done.left_out
    return made


@pytest.fixture(scope="module")
def plain(fleet: list[Path]) -> Iterator[Recording]:
    with open_recording(*sorted(fleet)) as rec:
        yield rec


@pytest.fixture(scope="module")
def data(folder: Path) -> Iterator[Recording]:
    with open_recording(folder) as rec:
        yield rec


def paths(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# --- the same answers as from the recordings ----------------------------------------------------


def renamed(text: str, rec: Recording) -> str:
    """Put hosts in the place of recordings, which have other names in a dataset."""
    for source in rec.sources:
        assert source.manifest is not None
        text = text.replace(source.name, f"<{source.manifest.host.name}>")
    return text


def answers(rec: Recording, name: str) -> str:
    if name == "summary":
        found = rec.summary().to_json()
        found.pop("recordings")
        # A recording outside the span of time is not opened, nor are kinds that only it has.
        found["kinds"] = [kind for kind in found["kinds"] if kind["events"]]
        return renamed(json.dumps(found), rec)
    if name == "diagnose":
        found = rec.diagnose().to_json()
        found.pop("recordings")
        for finding in found["findings"]:
            finding.pop("values")  # addresses as they are stored, which is text in a dataset
        return renamed(json.dumps(found), rec)
    if name == "correlate":
        return json.dumps(rec.correlate().to_json())
    if name == "verify":
        findings = [f for f in rec.verify().findings if f.part != "files"]
        return renamed("\n".join(sorted(map(str, findings))), rec)
    ask: dict[str, Callable[[], DuckDBPyRelation]] = {
        "top": lambda: rec.top(["reason", "function", "owner", "port", "saddr"], limit=500),
        "totals": lambda: rec.top(["cause", "location", "benign"], table="totals", limit=500),
        "timeline": lambda: rec.timeline(bucket="1s", by="saddr", table="drops"),
        "symbolize": rec.symbolize,
        "events": lambda: rec.sql(
            "SELECT * EXCLUDE (recording) FROM events WHERE kind <> 'listen'"
        ),
        "settings": lambda: rec.sql("SELECT ts, netns, netns_name, name, value FROM sysctls"),
    }
    table = ask[name]().to_arrow_table()
    kept = [c for c in table.column_names if c not in ("host", "date")]
    return renamed("\n".join(sorted(map(str, table.select(kept).to_pylist()))), rec)


@pytest.mark.parametrize(
    "question",
    ["summary", "diagnose", "correlate", "verify", "top", "totals", "timeline", "symbolize",
     "events", "settings"],
)  # fmt: skip
def test_a_dataset_answers_as_its_recordings_do(
    question: str, plain: Recording, data: Recording
) -> None:
    expected = answers(plain, question)
    assert len(expected) > 20
    assert answers(data, question) == expected


def test_diff_of_two_groups_of_hosts(folder: Path, fleet: list[Path]) -> None:
    with (
        open_recording(folder, hosts=["web-2"]) as one,
        open_recording(folder, hosts=["db-*"]) as two,
    ):
        found = diff(one, two)
    with open_recording(fleet[1]) as one, open_recording(fleet[2]) as two:
        expected = diff(one, two)
    assert [c.to_json() for c in found.changes] == [c.to_json() for c in expected.changes]
    assert found.settings == expected.settings
    assert found.changes


def test_a_part_of_the_time_is_the_same_part(plain: Recording, data: Recording) -> None:
    for start, end in (("+10s", "+20s"), ("09:48:30", None), ("mark:deployed", "+16s")):
        for question in ("summary", "top"):
            expected = answers(plain.between(start, end), question)
            assert answers(data.between(start, end), question) == expected
    states = "SELECT host, name, min(value), max(value) FROM counters GROUP BY ALL ORDER BY ALL"
    rows = data.between("+10s", "+20s").sql(states).fetchall()
    with_host = states.replace("host", "'web-1'")
    assert rows == plain.between("+10s", "+20s").sql(with_host).fetchall()


# --- layout -------------------------------------------------------------------------------------


def test_files_lie_by_table_day_and_host(folder: Path) -> None:
    found = {p for p in paths(folder) if p.endswith(".parquet")}
    assert all(
        len(p.split("/")) == 4 and p.split("/")[1] == "date=2026-11-21" for p in found
    )  # fmt: skip
    assert {p.split("/")[2] for p in found} == {"host=web-1", "host=web-2", "host=db-1"}
    tables = {p.split("/")[0] for p in found}
    assert {"drops", "locations", "cgroups", "processes", "sysctls", "totals"} <= tables
    assert not (folder / ".staging").exists()


def test_stored_types_are_integers_text_and_booleans(folder: Path) -> None:
    kinds = {
        str(field.type)
        for path in folder.rglob("*.parquet")
        for field in pq.read_schema(path)
    }  # fmt: skip
    assert kinds <= {"int16", "int32", "int64", "string", "bool", "double"}


def test_archiving_again_writes_nothing(folder: Path, fleet: list[Path]) -> None:
    before = {p: (folder / p).stat().st_mtime_ns for p in paths(folder)}
    done = archive([str(path) for path in fleet], str(folder))
    assert (len(done.added), len(done.kept)) == (0, 3)
    assert {p: (folder / p).stat().st_mtime_ns for p in paths(folder)} == before


def test_the_whole_catalog_is_listed_once(
    fleet: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each recording would be the square of the number of hosts."""
    listed: list[str] = []
    sizes = stores.FolderStore.sizes

    def counted(store: Any, folder: str) -> dict[str, int]:
        listed.append(folder)
        return sizes(store, folder)

    monkeypatch.setattr(stores.FolderStore, "sizes", counted)
    archive([str(path) for path in fleet], str(tmp_path / "data"))
    assert listed.count("_recordings") == 1


def test_an_interrupted_archive_shows_nothing_and_goes_on(
    fleet: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    archive([str(fleet[0])], str(target))
    publish = stores._FolderUpload.publish

    def fail(upload: Any) -> None:
        upload.written = upload.written[:3]
        publish(upload)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stores._FolderUpload, "publish", fail)
        with pytest.raises(KeyboardInterrupt):
            archive([str(path) for path in fleet], str(target))
    with open_recording(target) as rec:
        assert [s.manifest.host.name for s in rec.sources if s.manifest] == ["web-1"]
        assert rec.sql("SELECT DISTINCT host FROM events").fetchall() == [("web-1",)]
    done = archive([str(path) for path in fleet], str(target))
    assert (len(done.added), len(done.kept)) == (2, 1)
    assert paths(target) == paths(folder)


def test_a_killed_archive_leaves_nothing_behind(fleet: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "data"
    archive([str(fleet[0])], str(target))
    (name,) = (p.stem for p in target.glob("_recordings/*/*/*.json"))
    left = target / ".staging" / f"{name}.abc" / "drops"
    left.mkdir(parents=True)
    change(fleet[0], notes=["again"])
    archive([str(fleet[0])], str(target))
    assert not (target / ".staging").exists()


def test_a_recording_that_went_on_takes_its_own_place(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "rec")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
    maker.finish(state="recording", ended_ns=None)
    target = tmp_path / "data"
    archive([str(maker.path)], str(target))
    maker.seal("drops", [{"at": 2, "reason": "NO_SOCKET"}])
    maker.finish()
    archive([str(maker.path)], str(target))
    with open_recording(target) as rec:
        assert rec.sql("SELECT count(*) FROM drops").fetchall() == [(2,)]
        assert rec.sources[0].state == "complete"
    assert len(list(target.glob("drops/*/*/*.parquet"))) == 1


def test_rows_of_two_days_lie_in_two_folders(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "rec", host="a b/c")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}, {"at": DAY, "reason": "NO_SOCKET"}])
    maker.journal("drops", [{"at": 2 * DAY, "reason": "NETFILTER_DROP"}])
    maker.finish(ended_ns=START + (2 * DAY + 1) * 10**9)
    target = tmp_path / "data"
    archive([str(maker.path)], str(target))
    assert [p.parts[-3:-1] for p in sorted(target.glob("drops/*/*/*.parquet"))] == [
        (f"date=2023-11-{day}", "host=a%20b%2Fc") for day in (14, 15, 16)
    ]
    with open_recording(target, hosts=["a b*"], start="2023-11-15", end="2023-11-16") as rec:
        (path,) = (p for p in rec.origin.files() if "/drops/" in p)
        assert "date=2023-11-15" in path
        assert rec.sql("SELECT host, date, count(*) FROM drops GROUP BY ALL").fetchall() == [
            ("a b/c", "2023-11-15", 1)
        ]


# --- pruning ------------------------------------------------------------------------------------


def test_only_files_of_the_hosts_and_the_time_are_read(folder: Path) -> None:
    with open_recording(folder, hosts=["web-*"], start="2026-11-21T09:40:00Z") as rec:
        read = list(rec.origin.files())
        assert read
        assert all("host=web-2" in path for path in read)
        assert rec.sql("SELECT DISTINCT host FROM drops").fetchall() == [("web-2",)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hosts": ["nowhere"]}, "no host matches nowhere; hosts: db-1, web-1, web-2"),
        ({"start": "2027-01-01"}, "nothing was recorded in that span of time"),
        ({"start": "teatime"}, "'teatime' is not a time"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, arguments: Any, text: str) -> None:
    with pytest.raises((RecordingError, QueryError), match=text):
        open_recording(folder, **arguments)


def test_a_dataset_is_asked_by_itself(folder: Path, fleet: list[Path]) -> None:
    with pytest.raises(RecordingError, match="is a dataset, and is asked by itself"):
        open_recording(folder, fleet[0])
    with pytest.raises(QueryError, match="hosts are of a dataset"):
        open_recording(fleet[0], hosts=["web-1"])


# --- bad input ----------------------------------------------------------------------------------


def test_what_cannot_be_archived_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    good = make_host(tmp_path, "good", "after")
    newer = make_host(tmp_path, "newer", "after")
    change(newer, format_version=99)
    cut = make_host(tmp_path, "cut", "before")
    (drops,) = (cut / "drops").glob("*.parquet")
    drops.write_bytes(drops.read_bytes()[:-100])
    flipped = make_host(tmp_path, "flipped", "before")
    (listen,) = (flipped / "listen").glob("*.parquet")
    content = bytearray(listen.read_bytes())
    content[1000] ^= 1
    listen.write_bytes(content)
    without = make_host(tmp_path, "without", "before")
    (dictionary,) = (without / "cgroups").glob("*.parquet")
    dictionary.unlink()
    target = tmp_path / "data"
    recordings = [str(p) for p in (good, newer, cut, flipped, without)]
    done = archive(recordings, str(target))
    assert (len(done.added), done.failed) == (4, 1)
    said = "\n".join(done.left_out)
    assert "newer: " in said
    assert "format version 99" in said
    assert f"cut/drops/{drops.name}: not readable, left out" in said
    assert f"flipped/listen/{listen.name}" in said
    assert said.count(f"without/cgroups/{dictionary.name}: ") == 1
    assert f"without/cgroups/{dictionary.name}: is in recording.json, but not there" in said
    with open_recording(target) as rec:
        hosts = dict(rec.sql("SELECT host, count(*) FROM events GROUP BY ALL").fetchall())
        assert set(hosts) == {"good", "cut", "flipped", "without"}
        assert any(drops.name in str(problem) for problem in rec.problems)
        assert rec.sql("SELECT count(*) FROM drops WHERE host = 'cut'").fetchall() == [(0,)]
        named = "SELECT count(container) FROM events WHERE host = 'without'"
        assert rec.sql(named).fetchall() == [(0,)]


def test_damage_to_a_dataset_is_named_and_the_rest_is_answered(
    fleet: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "data"
    archive([str(path) for path in fleet], str(target))
    (gone,) = target.glob("cgroups/*/host=web-1/*.parquet")
    gone.unlink()
    (cut,) = target.glob("drops/*/host=web-1/*.parquet")
    cut.write_bytes(cut.read_bytes()[:-10])
    (bad,) = target.glob("_recordings/*/host=db-1/*.json")
    bad.write_text("{")
    (newer,) = target.glob("_recordings/*/host=web-2/*.json")
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"version": 2}))
    with open_recording(target) as rec:
        said = "\n".join(map(str, rec.problems))
        assert f"{gone.relative_to(target)}: is missing; left out" in said
        assert f"{cut.relative_to(target)}: is not as it was written; left out" in said
        assert f"{bad.relative_to(target)}: is damaged; left out" in said
        assert "has layout version 2, this droptape reads up to 1; left out" in said
        assert rec.sql("SELECT DISTINCT host FROM retransmits").fetchall() == [("web-1",)]
        assert "drops" not in dict(rec.sql("SELECT kind, 1 FROM events GROUP BY ALL").fetchall())
        assert rec.summary().events > 0
    archive([str(fleet[0])], str(target))
    with open_recording(target, hosts=["web-1"]) as rec:
        assert not rec.problems


def test_recordings_of_an_older_format_are_asked_with_newer_ones(tmp_path: Path) -> None:
    newer = Maker(tmp_path / "newer", host="newer")
    older = Maker(tmp_path / "older", host="older")
    drops = older.tables["drops"]
    columns = tuple(column for column in drops if column.name not in ("state", "weight"))
    older.tables["drops"] = replace(drops, columns=columns)
    for maker in (newer, older):
        maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
        maker.finish()
    done = archive([str(newer.path), str(older.path)], str(tmp_path / "data"))
    assert (len(done.added), done.left_out) == (2, [])
    with open_recording(tmp_path / "data") as rec:
        assert not rec.problems
        rows = rec.sql("SELECT host, reason, weight FROM drops ORDER BY host").fetchall()
        assert rows == [("newer", "NO_SOCKET", 1), ("older", "NO_SOCKET", None)]
        assert rec.top(["host"]).fetchall()
        assert len(rec.summary().causes) == 1


def test_two_machines_of_one_name_stay_apart(tmp_path: Path) -> None:
    one = make_host(tmp_path / "a", "twin", "before")
    other = make_host(tmp_path / "b", "twin", "after")
    change(other, recording_id="other", host={"machine_id": "0badcafe99", "boot_id": "x"})
    target = tmp_path / "data"
    done = archive([str(one), str(other)], str(target))
    assert done.renamed == [f"{other}: another machine is called twin: now twin~0badcafe"]
    with open_recording(target) as rec:
        rows = rec.sql("SELECT DISTINCT host FROM events ORDER BY 1").fetchall()
        assert rows == [("twin",), ("twin~0badcafe",)]
    with open_recording(target, hosts=["twin"]) as rec:
        assert len(rec.sources) == 1


def test_verify_misses_the_entry_of_rows(folder: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(folder, tmp_path / "data"))
    with open_recording(target) as rec:
        assert not [f for f in rec.verify().unexplained if f.part == "files"]
    damaged, gone = sorted(target.glob("_recordings/*/*/*.json"))[:2]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    gone.unlink()
    with open_recording(target) as rec:
        bad = [f for f in rec.verify().unexplained if f.part == "files"]
    assert len(bad) == 2
    assert any(f.subject == damaged.relative_to(target).as_posix() for f in bad)
    assert any(f"belongs to {gone.stem}, which has no entry" in f.why for f in bad)


def test_a_dataset_of_a_damaged_recording_is_not_whole(tmp_path: Path) -> None:
    folder = make_incident(tmp_path / "web-1")
    manifest = Manifest.read(folder)
    manifest.damaged = {"listen/000009-20261121T000000Z.journal": "0 rows read"}
    manifest.write(folder)
    archive([str(folder)], str(tmp_path / "data"))
    with open_recording(tmp_path / "data") as rec:
        (said,) = [f.why for f in rec.verify().unexplained if f.part == "files"]
    assert said == "listen/000009-20261121T000000Z.journal: 0 rows read"
