"""Bundles from strangers: whatever is in them, they open safely or are refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.analyze import RecordingError, open_recording
from droptape.analyze.bundle import container, pages
from droptape.analyze.bundle import read as read_module
from droptape.format.tables import TABLES
from unit.analyze.forger import (
    DROPS,
    Members,
    pack,
    pack_by_hand,
    parquet,
    refused,
    replaced,
    sealed,
)


def test_the_forger_below_can_forge(members: Members, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.droptape", sealed(parquet(members, lambda rows: rows)))
    with open_recording(path) as rec:
        assert rec.sql("SELECT count(*) FROM drops").fetchall() == [(5,)]


# --- the archive ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil.parquet", "/etc/evil", "drops/../../evil", "drops\\evil.parquet",
     "drops/evil.parquet", "evil.sql", "recorder.lock", ".hidden",
     "drops/000001-20231114T221320Z.journal", "drops/", "",
     "DROPS/000001-20231114T221320Z.parquet", "a/b/000001-20231114T221320Z.parquet", "x\n.parquet",
     "drops/000001-20231114T221320Z.parquet ", "con/000001-20231114T221320Z.parquet\0x"],
)  # fmt: skip
def test_other_names_are_refused(members: Members, tmp_path: Path, name: str) -> None:
    refused(pack(tmp_path / "x.droptape", {**members, name: b"x"}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.droptape"]


def test_a_name_that_is_there_twice_is_refused(members: Members, tmp_path: Path) -> None:
    twice = [*members.items(), (DROPS, members[DROPS])]
    assert "twice" in refused(pack_by_hand(tmp_path / "x.droptape", twice, {}))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO, stat.S_IFDIR, 0])
def test_what_is_no_plain_file_is_refused(members: Members, tmp_path: Path, mode: int) -> None:
    link = {**members, DROPS: b"/etc/passwd"}
    path = pack_by_hand(tmp_path / "x.droptape", list(link.items()), {DROPS: mode})
    assert "is not a plain file" in refused(path)


def test_a_bomb_of_zeros_is_refused(members: Members, tmp_path: Path) -> None:
    zeros = bytes(container.MAX_TEXT - 1)
    said = refused(pack(tmp_path / "x.droptape", {**members, "report.html": zeros}))
    assert "report.html" in said
    assert "would grow" in said


def test_a_size_that_is_a_lie_is_refused(members: Members, tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "x.droptape", members).read_bytes())
    at = data.rindex(b"recording.json") - 46 + 24  # in the directory
    size = struct.unpack_from("<I", data, at)[0]
    for lie in (size - 100, size + 100, 0, 0xFFFF_FFFF):
        struct.pack_into("<I", data, at, lie)
        (tmp_path / "lie.droptape").write_bytes(data)
        refused(tmp_path / "lie.droptape")


def test_too_many_members_are_refused(members: Members, tmp_path: Path) -> None:
    many = {f"t/{n:06d}-20231114T221320Z.parquet": b"" for n in range(container.MAX_MEMBERS)}
    assert "members" in refused(pack(tmp_path / "x.droptape", {**members, **many}))


def test_overlapping_members_are_refused(members: Members, tmp_path: Path) -> None:
    """Several names for the same bytes, so that a small file becomes large."""
    data = pack(tmp_path / "x.droptape", members).read_bytes()
    at = data.index(b"PK\x01\x02")
    directory = bytearray(data[at:-22])
    first = directory.index(DROPS.encode()) - 46
    second = directory.index(b"listen/0") - 46
    struct.pack_into(
        "<I", directory, second + 42, struct.unpack_from("<I", directory, first + 42)[0]
    )
    (tmp_path / "y.droptape").write_bytes(data[:at] + directory + data[-22:])
    refused(tmp_path / "y.droptape")


def test_a_changed_file_is_refused(members: Members, tmp_path: Path) -> None:
    changed = parquet(members, lambda rows: rows.slice(1))
    said = refused(pack(tmp_path / "x.droptape", changed))
    assert said.endswith(f"{DROPS} was changed: its SHA-256 is not the manifest's")


def test_a_missing_and_an_extra_file_are_refused(members: Members, tmp_path: Path) -> None:
    less = {name: data for name, data in members.items() if name != DROPS}
    assert f"{DROPS} is missing" in refused(pack(tmp_path / "less.droptape", less))
    more = {**members, DROPS.replace("000001", "000002"): members[DROPS]}
    assert "is not in the manifest" in refused(pack(tmp_path / "more.droptape", more))


def test_deep_json_is_refused(members: Members, tmp_path: Path) -> None:
    deep = b"[1," * 3000 + bytes(range(32, 127)) * 100
    index = json.loads(members["bundle.json"])
    index["manifest_sha256"] = hashlib.sha256(deep).hexdigest()
    both = {**members, "recording.json": deep, "bundle.json": json.dumps(index).encode()}
    refused(pack(tmp_path / "x.droptape", both))
    refused(pack(tmp_path / "y.droptape", {**members, "bundle.json": deep}))


def test_a_newer_version_is_said(members: Members, tmp_path: Path) -> None:
    index = {**json.loads(members["bundle.json"]), "version": 99}
    newer = {**members, "bundle.json": json.dumps(index).encode()}
    assert "update droptape" in refused(pack(tmp_path / "x.droptape", newer))


# --- SQL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["x; COPY (SELECT 1) TO '/tmp/evil'", "reason, (SELECT 1)", '"', "a b", "é", "", 5, None],
)  # fmt: skip
@pytest.mark.parametrize("what", ["table", "column"])
def test_names_cannot_become_sql(members: Members, tmp_path: Path, name: object, what: str) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        table = manifest["tables"]["drops"]
        (table if what == "table" else table["columns"][0])["name"] = name

    refused(pack(tmp_path / "x.droptape", sealed(members, rename)))


def test_texts_cannot_become_sql(members: Members, tmp_path: Path) -> None:
    """Names of files, hosts and processes stand in SQL as values."""
    evil = "'; COPY (SELECT 1) TO 'evil'; --"

    def change(manifest: dict[str, Any]) -> None:
        manifest["host"]["name"] = evil
        manifest["tables"]["drops"]["doc"] = evil

    def rows(table: pa.Table) -> pa.Table:
        return replaced(table, "owner_comm", [evil] * table.num_rows)

    path = pack(tmp_path / f"{evil}.droptape", sealed(parquet(members, rows), change))
    with open_recording(path) as rec:
        assert rec.sql("SELECT DISTINCT owner_comm FROM drops").fetchall() == [(evil,)]
        rec.summary()
        rec.top("owner").fetchall()
        rec.report(tmp_path / "r.html")
    assert len(list(tmp_path.iterdir())) == 2


# --- the Parquet files ---------------------------------------------------------------------------


def test_a_column_of_another_type_is_refused(members: Members, tmp_path: Path) -> None:
    def text(rows: pa.Table) -> pa.Table:
        return replaced(rows, "ts_ns", ["x"] * rows.num_rows)

    def nested(rows: pa.Table) -> pa.Table:
        return rows.append_column("extra", pa.array([[1]] * rows.num_rows))

    said = refused(pack(tmp_path / "text.droptape", sealed(parquet(members, text))))
    assert f"{DROPS}: the column ts_ns is string, declared as int64" in said
    assert "extra" in refused(pack(tmp_path / "nest.droptape", sealed(parquet(members, nested))))


def test_a_long_text_is_refused(members: Members, tmp_path: Path) -> None:
    def long(rows: pa.Table) -> pa.Table:
        return replaced(rows, "owner_comm", ["x" * 100_000] * rows.num_rows)

    path = pack(tmp_path / "x.droptape", sealed(parquet(members, long)))
    assert "100,000 bytes" in refused(path)


def test_a_text_that_is_no_text_is_refused(members: Members, tmp_path: Path) -> None:
    table = pq.read_table(io.BytesIO(members[DROPS])).select(["owner_comm"])
    out = io.BytesIO()
    pq.write_table(replaced(table, "owner_comm", ["abc"] * 5), out, compression="none")
    spoiled = out.getvalue().replace(b"abc", b"a\xf4c")
    refused(pack(tmp_path / "x.droptape", sealed({**members, DROPS: spoiled})))


def test_rows_that_take_no_room_are_bounded(members: Members, tmp_path: Path) -> None:
    """A dictionary of one value and one run: any number of rows in a few bytes."""
    drops = pq.read_table(io.BytesIO(members[DROPS]))
    count = pages.MAX_GROUP_ROWS + 1
    out = io.BytesIO()
    many = drops.select(["owner_comm"]).take(pa.array([0] * count, pa.int8()))
    pq.write_table(many, out, compression="zstd", row_group_size=count)
    assert len(out.getvalue()) < 100_000
    said = refused(pack(tmp_path / "x.droptape", sealed({**members, DROPS: out.getvalue()})))
    assert "too many rows" in said


def test_texts_that_take_no_room_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_GROUP_BYTES", 1 << 20)
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"cause": ["x" * 60_000] * 1000}), path, compression="zstd")
    with pytest.raises(pages.UnsafeFileError, match="texts is too large"):
        pages.rewrite(path, TABLES["totals"])


def test_pages_that_grow_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "FREE", 1 << 20)
    monkeypatch.setattr(pages, "MAX_RATIO", 10)
    path = tmp_path / "zeros.parquet"
    zeros = pa.table({"ts_ns": pa.array([7] * 1_000_000, pa.int64())})
    pq.write_table(zeros, path, compression="zstd", use_dictionary=False)
    with pytest.raises(pages.UnsafeFileError, match="too large when unpacked"):
        pages.rewrite(path, TABLES["totals"])


def test_a_page_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    """Readers make as much room as the page says, whatever the footer does."""
    path = tmp_path / "lie.parquet"
    table = pa.table({"ts_ns": pa.array(range(200_000), pa.int64())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    # Field 1, the kind of page, then field 2, its size when unpacked: a varint of 3 bytes.
    assert bytes(data[at : at + 3]) == b"\x15\x00\x15"
    assert [byte > 127 for byte in data[at + 3 : at + 6]] == [True, True, False]
    data[at + 3 : at + 6] = b"\xfe\xff\x7f"  # 1 MB
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MAX_GROUP_BYTES", 1 << 19)
        with pytest.raises(pages.UnsafeFileError, match="a page has no valid size"):
            pages.rewrite(path, TABLES["totals"])


def test_what_is_read_was_written_anew(good: Path, members: Members, tmp_path: Path) -> None:
    """Nothing but the values comes through: not what else a stranger put into a file."""
    table = pq.read_table(io.BytesIO(members[DROPS]))
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"evil": "evil-value"}), out)
    path = pack(tmp_path / "x.droptape", sealed({**members, DROPS: out.getvalue()}))
    folder = tmp_path / "unpacked"
    read_module.read(path, folder)
    written = (folder / DROPS).read_bytes()
    assert b"evil" not in written
    assert pq.read_table(folder / DROPS).to_pylist() == table.to_pylist()


# --- around it -----------------------------------------------------------------------------------


def test_nothing_is_left_in_the_temporary_folder(
    good: Path, members: Members, tmp_path: Path
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    bad = pack(tmp_path / "bad.droptape", {**members, "recording.json": b"{}"})
    with pytest.raises(RecordingError):
        open_recording(bad, temp_folder=temp)
    assert list(temp.iterdir()) == []
    with open_recording(good, temp_folder=temp):
        assert len(list(temp.iterdir())) == 2
        assert all(not path.stat().st_mode & 0o077 for path in temp.iterdir())
    assert list(temp.iterdir()) == []


def test_a_damaged_one_among_several_is_a_problem(good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.droptape"
    bad.write_bytes(good.read_bytes()[:-30])
    with open_recording(good, bad) as rec:
        assert [str(problem) for problem in rec.problems] == [
            f"{bad}: is damaged: its end is missing"
        ]


def test_a_reader_that_fails_hard_is_a_refusal(members: Members, tmp_path: Path) -> None:
    """The end of the process that unpacks is reported with the member that it was at."""
    path = pack(tmp_path / "x.droptape", members)
    start = (
        "import sys; sys.path[:] = {path!r}\n"
        "import os; from droptape.analyze.bundle import safe\n"
        "safe.rewrite = lambda path, table: os.abort()\n"
        "sys.exit(safe.main())"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_module, "_START", start)
        with pytest.raises(RecordingError, match=r"cgroups/.* is damaged: .*SIGABRT"):
            read_module.read(path, tmp_path / "unpacked")


def test_the_process_that_unpacks_writes_nowhere_else(members: Members, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.droptape", members)
    target = tmp_path / "evil"
    start = (
        "import sys; sys.path[:] = {path!r}\n"
        "from droptape.analyze.bundle import safe\n"
        f"safe.rewrite = lambda path, table: open({str(target)!r}, 'w')\n"
        "sys.exit(0 if safe.sandbox.abi() == 0 else safe.main())"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_module, "_START", start)
        with pytest.raises(RecordingError, match=r"Permission denied|exit code 0"):
            read_module.read(path, tmp_path / "unpacked")
    assert not target.exists()


# --- searching -----------------------------------------------------------------------------------
