"""Counts in footers: the same answers as from the rows, without reading these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droptape.analyze import Recording, columns, open_recording, rollups
from droptape.format.decode import decode
from droptape.format.manifest import Manifest, Removed, sha256
from droptape.format.rollup import CAUSES, KEY, OWNERS
from droptape.recorder import rollup
from unit.analyze.make import OFFSET, SECOND, START, Maker

Rows = Sequence[Mapping[str, Any]]
COUNTED = (
    ["reason", "function"], ["kind", "cause"], ["kind"], ["owner"], ["owner", "pid", "port"],
    ["container", "benign"], ["recording", "port"], ["cause", "owner_comm"],
)  # fmt: skip
UNCOUNTED = (["saddr"], ["owner", "function"], ["netns"], ["cause", "protocol"])
TABLES = (
    ("drops", ["reason", "function"], True), ("drops", ["port"], True),
    ("retransmits", ["kind"], True), ("retransmits", ["reason"], True),
    ("listen", ["event", "owner"], True), ("listen", ["lport"], False),
    ("resets", ["direction"], True), ("resets", ["reason"], False),
)  # fmt: skip


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows have a rollup."""
    for limit in "_FEWEST", "_ROWS_EACH", "_ROWS_HERE":
        monkeypatch.setattr(rollup, limit, 1)
    monkeypatch.setattr(rollups, "_WORTH", 1)


def seal(maker: Maker, table: str, rows: Rows, *, start: int = START) -> Path:
    """Write a sealed segment as the recorder does."""
    declared = maker.tables[table]
    records = maker.records(table, rows)
    counting = rollup.Counting(declared, start)
    columns = {name: records[name] for name in declared.dtype.names or ()}
    counting.add(columns, records["mono_ns"].astype("i8") + OFFSET)
    text = counting.finish()
    assert text is not None
    return maker.write(table, decode(declared, records, OFFSET), footer={KEY.decode(): text})


def drop(at: float, **more: Any) -> dict[str, Any]:
    return {"at": at, "reason": "NO_SOCKET", "location": 0x1010, "saddr": "10.0.0.1",
            "daddr": "10.0.0.2", "sport": 40000, "dport": 80, "tcp_flags": 2, **more}  # fmt: skip


DROPS = [
    drop(number * 0.37, owner_pid=100 + number % 3, owner_comm=f"p{number % 2}",
         location=(0x1010, 0x3020, 0x1020)[number % 3], cgroup_id=1 + number % 2,
         dport=(80, 443, 0)[number % 3], sport=(40000, 41000, 0)[number % 3],
         tcp_flags=(2, 16, 0)[number % 3], weight=1 + number % 5, benign=number % 7 == 0,
         reason=("NO_SOCKET", "NETFILTER_DROP")[number % 2])
    for number in range(150)
]  # fmt: skip
RETRANSMITS = [
    {**drop(number * 0.9), "kind": ("RTO", "DEFERRED", "TLP")[number % 3], "segments": number % 4,
     "owner_pid": 7, "owner_comm": "client"}
    for number in range(40)
]  # fmt: skip
LISTEN = [
    {"at": number * 1.1, "event": ("accept_queue_full", "ack_dropped")[number % 2], "lport": 8080,
     "saddr": "10.0.0.9", "owner_pid": 9, "owner_comm": "server"}
    for number in range(30)
]  # fmt: skip
RESETS = [
    {**drop(number * 2.0), "direction": ("sent", "received")[number % 2], "reason": "NO_SOCKET"}
    for number in range(20)
]  # fmt: skip

Seal = Callable[[Maker, str, Rows], object]


def whole(maker: Maker, put: Seal) -> None:
    """All files can have a rollup."""
    put(maker, "drops", DROPS[:70])
    put(maker, "drops", DROPS[70:])
    put(maker, "retransmits", RETRANSMITS)
    put(maker, "listen", LISTEN)
    put(maker, "resets", RESETS)


def partly(maker: Maker, put: Seal) -> None:
    """One has none, one is not sealed, and one is of a recorder with another declaration."""
    put(maker, "drops", DROPS[:40])
    maker.seal("drops", DROPS[40:60])
    maker.journal("drops", DROPS[60:90], DROPS[90:])
    maker.seal("retransmits", RETRANSMITS)
    maker.journal("listen", LISTEN)
    put(maker, "resets", RESETS)


def recording(folder: Path, fill: Callable[[Maker, Seal], None], put: Seal) -> Path:
    maker = Maker(folder / "r")
    fill(maker, put)
    maker.symbols()
    maker.dictionary("cgroups", [{"id": 1, "path": "/a", "container": "a"}])
    return maker.finish()


def plainly(maker: Maker, table: str, rows: Rows) -> None:
    maker.seal(table, rows)


def pair(tmp_path: Path, fill: Callable[[Maker, Seal], None]) -> tuple[Path, Path]:
    """Make a recording with rollups and the same without."""
    return recording(tmp_path / "with", fill, seal), recording(tmp_path / "without", fill, plainly)


def answers(rec: Recording) -> Iterator[tuple[str, Any]]:
    """Ask everything that counts."""
    summary = rec.summary().to_json()
    del summary["recordings"]
    yield "summary", summary
    for by in (*COUNTED, *UNCOUNTED):
        for benign in (False, True):
            found = rec.top(by, include_benign=benign, limit=100)
            yield f"top {by} {benign}", (found.columns, found.types, found.fetchall())
    for table, by, _ in TABLES:
        yield f"top {table} {by}", rec.top(by, table=table, limit=100).fetchall()
    for bucket, column in (
        ("100ms", None), ("1s", "reason"), ("7s", "function"), ("1m", "owner"), ("250ms", "kind"),
        ("auto", "recording"),
    ):  # fmt: skip
        found = rec.timeline(bucket=bucket, by=column)
        yield f"timeline {bucket} {column}", found.fetchall()
    for table in ("drops", "retransmits", "resets"):
        yield f"timeline {table}", rec.timeline(bucket="2s", table=table).fetchall()


@pytest.mark.parametrize("fill", [whole, partly])
def test_answers_are_those_of_the_rows(tmp_path: Path, fill: Callable[[Maker, Seal], None]) -> None:
    counted, plain = pair(tmp_path, fill)
    with open_recording(counted) as one, open_recording(plain) as other:
        assert one.origin.rollups.keys() == {CAUSES, OWNERS}
        assert not other.origin.rollups
        for (what, found), (_, expected) in zip(answers(one), answers(other), strict=True):
            assert found == expected, what


@given(
    st.lists(
        st.builds(
            drop,
            st.integers(0, 600).map(lambda tenths: tenths / 10),
            owner_pid=st.integers(0, 2),
            owner_comm=st.sampled_from(["", "a", "b"]),
            location=st.sampled_from([0x1010, 0x3020, 0x3021]),
            sport=st.sampled_from([0, 80, 40000]),
            dport=st.sampled_from([0, 80, 50000]),
            tcp_flags=st.sampled_from([0, 2, 16, 18]),
            weight=st.integers(1, 1000),
            cgroup_id=st.integers(0, 2),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 40),
)
@settings(max_examples=10, deadline=None)
def test_any_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], sealed: int
) -> None:
    def fill(maker: Maker, put: Seal) -> None:
        put(maker, "drops", rows[:sealed] or rows)
        if rows[sealed:] and rows[:sealed]:
            maker.journal("drops", rows[sealed:])

    counted, plain = pair(tmp_path_factory.mktemp("any"), fill)
    with open_recording(counted) as one, open_recording(plain) as other:
        assert one.origin.rollups
        for (what, found), (_, expected) in zip(answers(one), answers(other), strict=True):
            assert found == expected, what


def test_usual_questions_do_not_read_the_rows(tmp_path: Path) -> None:
    counted, _ = pair(tmp_path, whole)
    with open_recording(counted) as rec:
        for by in COUNTED:
            names = [columns.counted_as(rec, "events", column) for column in by]
            assert rollups.ask(rec, names).counted
        expected = rec.top(["reason", "function"]).fetchall()
        lines = [rec.timeline(bucket="1s", by="reason").fetchall(), rec.summary().causes]
        for path in (counted / "drops").glob("*.parquet"):
            path.unlink()
        assert rec.top(["reason", "function"]).fetchall() == expected
        assert [rec.timeline(bucket="1s", by="reason").fetchall(), rec.summary().causes] == lines


@pytest.mark.parametrize(
    ("start", "end", "counted"),
    [
        ("+10s", "+20.5s", 0),
        ("+10s", None, 1),
        (None, "+50s", 1),
        ("+5s", "+1m", 1),
        ("+0s", None, 2),
    ],
)
def test_a_part_of_the_time_is_counted_by_files_that_are_in_it(
    tmp_path: Path, start: str | None, end: str | None, counted: int
) -> None:
    """The drops are in two, which meet at 26 s."""

    def fill(maker: Maker, put: Seal) -> None:
        put(maker, "drops", DROPS[:70])
        put(maker, "drops", DROPS[70:])

    one, other = pair(tmp_path, fill)
    with open_recording(one) as rec, open_recording(other) as plain:
        part, expected = rec.between(start, end), plain.between(start, end)
        assert bool(part.origin.rollups) == bool(counted)
        if counted:
            files = part.sql('SELECT count(*) FROM r0."causes of drops"').fetchall()[0][0]
            whole = rec.sql('SELECT count(*) FROM r0."causes of drops"').fetchall()[0][0]
            assert (files < whole) == (counted == 1)
        for (what, found), (_, right) in zip(answers(part), answers(expected), strict=True):
            assert found == right, what


def test_a_rolling_recording_is_counted_from_where_it_is_complete(tmp_path: Path) -> None:
    """Which is within the second of three files, and at no whole slot after the start."""

    def fill(maker: Maker, put: Seal) -> None:
        for at in (0, 50, 100):
            put(maker, "drops", DROPS[at : at + 50])

    until = START + 20 * SECOND + 1234
    removed = {
        "drops": Removed(through=1, files=1, rows=50, bytes=9, first_ns=START, last_ns=until)
    }
    found = []
    for path in pair(tmp_path, fill):
        manifest = Manifest.read(path)
        manifest.removed = removed
        manifest.write(path)
        with open_recording(path) as rec:
            found.append((bool(rec.origin.rollups), dict(answers(rec))))
            assert 0 < rec.summary().events < sum(row["weight"] for row in DROPS[50:])
    (counted, one), (rows, other) = found

    assert (counted, rows) == (True, False)
    for what in one:
        if what == "summary":  # its buckets begin at a whole slot
            for answer in one[what], other[what]:
                for kind in answer["kinds"]:
                    kind["buckets"] = sum(kind["buckets"])
        assert one[what] == other[what], what


def test_buckets_that_begin_elsewhere_are_counted_by_rows(tmp_path: Path) -> None:
    """As those of a second recording, which began a moment later."""
    first, second = Maker(tmp_path / "a"), Maker(tmp_path / "b")
    seal(first, "drops", DROPS)
    seal(second, "drops", DROPS, start=START + 12_345)
    folders = [first.finish(), second.finish(started_ns=START + 12_345)]
    with open_recording(*folders) as rec:
        assert len(rec.origin.rollups[CAUSES]) == 2
        assert not rollups.ask(rec, ["cause"], origin_ns=START, width_ns=SECOND).counted
        assert rollups.ask(rec, ["cause"]).counted
        rows = rec.timeline(bucket="1s", by="recording", include_benign=True).fetchall()
        assert sum(row[3] for row in rows) == 2 * sum(row["weight"] for row in DROPS)


def test_rows_that_are_read_as_fast_have_no_view_of_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small recordings would take longer to open."""
    counted, _ = pair(tmp_path, whole)
    rows = len(DROPS) + len(RETRANSMITS) + len(LISTEN) + len(RESETS)
    for worth, used in (rows, True), (rows + 1, False):
        monkeypatch.setattr(rollups, "_WORTH", worth)
        with open_recording(counted) as rec:
            assert bool(rec.origin.rollups) is used


def test_containers_that_changed_are_told_by_rows(tmp_path: Path) -> None:
    """A control group's number that is used again: a count has rows of both."""
    maker = Maker(tmp_path / "r")
    seal(maker, "drops", [drop(at, cgroup_id=1) for at in (1, 2, 3, 4)])
    maker.dictionary("cgroups", [
        {"id": 1, "path": "/a", "container": "old"},
        {"id": 1, "path": "/b", "container": "new", "since": START + 2 * SECOND + 1},
    ])  # fmt: skip
    with open_recording(maker.finish()) as rec:
        assert rec.origin.rollups.keys() == ({CAUSES} if _dated(maker) else {CAUSES, OWNERS})
        rows = rec.sql("SELECT container, count(*) FROM drops GROUP BY 1 ORDER BY 1").fetchall()
        told = rec.top(["container"]).fetchall()
        assert sorted((row[0], row[1]) for row in told) == rows


def _dated(maker: Maker) -> bool:
    return any(column.name == "since" for column in maker.tables["cgroups"])


def other_footer(maker: Maker, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a file again with another rollup."""
    data = pq.read_table(path, partitioning=None)
    found = json.loads(data.schema.metadata[KEY])
    change(found)
    meta = {**data.schema.metadata, KEY: json.dumps(found).encode()}
    pq.write_table(data.replace_schema_metadata(meta), path)
    for number, one in enumerate(maker.segments):
        if one.file == f"drops/{path.name}":
            maker.segments[number] = replace(one, bytes=path.stat().st_size, sha256=sha256(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[CAUSES].update(crc32=1),
        lambda found: found[CAUSES].update(origin_ns=START + 1),
        lambda found: found[CAUSES].update(data="AAAA"),
        lambda found: found.update({CAUSES: None}),
        lambda found: found.clear(),
    ],
)
def test_without_a_whole_one_rows_are_read(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    maker = Maker(tmp_path / "r")
    path = seal(maker, "drops", DROPS)
    seal(maker, "resets", RESETS)
    other_footer(maker, path, change)
    with open_recording(maker.finish()) as rec:
        found = rec.top(["kind"], include_benign=True).fetchall()
        expected = sum(row["weight"] for row in DROPS)
        assert [(row[0], row[1]) for row in found] == [("drops", expected), ("resets", 20)]


def test_verify_holds_them_against_the_rows(tmp_path: Path) -> None:
    def unfounded(rec: Recording) -> list[tuple[str, str]]:
        return [(f.recording, f.why) for f in rec.verify().findings if "footers" in f.subject]

    maker = Maker(tmp_path / "r")
    seal(maker, "drops", DROPS)
    with open_recording(maker.finish()) as rec:
        assert unfounded(rec) == []

    forged = Maker(tmp_path / "forged")
    path = seal(forged, "drops", DROPS)
    other = [{**row, "reason": "NO_SOCKET", "owner_comm": "somebody else"} for row in DROPS]
    text = pq.read_metadata(seal(Maker(tmp_path / "other"), "drops", other)).metadata[KEY]
    other_footer(forged, path, lambda found: found.update(json.loads(text)))
    with open_recording(forged.finish()) as rec:
        assert {name for name, _ in unfounded(rec)} == {"forged"}
        assert "do not fit the rows" in unfounded(rec)[0][1]
        assert not rec.verify().balanced
