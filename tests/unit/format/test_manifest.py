from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from droptape.bpf.kinds import all_kinds
from droptape.format import layout
from droptape.format.errors import FormatError
from droptape.format.manifest import Clock, Host, Manifest, Probe, Segment, sha256

REMOVED = {"through": 1, "files": 1, "rows": 1, "bytes": 1, "first_ns": 1, "last_ns": 2}
SEGMENT = {
    "table": "drops", "file": "drops/x.parquet", "rows": 1, "first_ns": 1, "last_ns": 2,
    "bytes": 1, "sha256": "",
}  # fmt: skip


def example() -> Manifest:
    return Manifest(
        recording_id="abc",
        host=Host("web1", "boot", "6.18", "x86_64", 4),
        started_ns=1,
        tables={name: kind.table for name, kind in all_kinds().items()},
        probes=[Probe("drops/kfree_skb", "drops", "raw_tracepoint kfree_skb", attached=True)],
        clocks=[Clock(1, 2)],
        segments=[Segment("drops", "drops/000001-x.parquet", 5, 1, 2, 100, "00")],
        losses={"drops": {"ring_full": 3}},
        notes=["a note"],
    )


def test_the_manifest_survives_the_disk(tmp_path: Path) -> None:
    example().write(tmp_path)
    assert Manifest.read(tmp_path) == example()
    assert [p.name for p in tmp_path.iterdir()] == [layout.MANIFEST]
    assert (tmp_path / layout.MANIFEST).stat().st_mode & 0o777 == 0o640


def test_a_failed_write_keeps_the_old_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example().write(tmp_path)

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    changed = example()
    changed.notes.append("new")
    with pytest.raises(OSError, match="No space"):
        changed.write(tmp_path)
    assert Manifest.read(tmp_path) == example()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cut_manifest_is_told_by_name(tmp_path: Path) -> None:
    example().write(tmp_path)
    path = tmp_path / layout.MANIFEST
    data = path.read_bytes()
    for length in range(0, len(data) - 2, 97):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError, match=r"recording\.json"):
            Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "update droptape"),
        ({"format_version": "1"}, "format version"),
        ({"host": None}, "damaged"),
        ({"host": {"name": "x"}}, "damaged"),
        ({"tables": []}, "damaged"),
        ({"tables": {"t": {}}}, "damaged"),
        ({"segments": [{"file": "x"}]}, "damaged"),
        ({"clocks": None}, "damaged"),
        ({"format_version": 0}, "damaged"),
        ({"format_version": True}, "damaged"),
        ({"started_ns": 10**30}, "started_ns is 1000"),
        ({"started_ns": -(10**20)}, "damaged"),
        ({"started_ns": "x"}, "damaged"),
        ({"started_ns": 1.5e18}, "damaged"),
        ({"ended_ns": 10**30}, "damaged"),
        ({"losses": {"drops": "x"}}, "losses is 'x'"),
        ({"losses": {"drops": {"ring_full": -1}}}, "damaged"),
        ({"notes": [1, {}]}, "notes is 1"),
        ({"removed": {"drops": {**REMOVED, "last_ns": 10**30}}}, "last_ns is"),
        ({"removed": {"drops": {**REMOVED, "rows": None}}}, "rows is None"),
        ({"segments": [{**SEGMENT, "file": "../drops/x.parquet"}]}, "no file of a table"),
        ({"segments": [{**SEGMENT, "table": "..", "file": "../x.parquet"}]}, "no file of a table"),
        ({"probes": [{"name": "x", "table": "t", "mechanism": "", "attached": "no"}]}, "attached"),
    ],
)
def test_a_damaged_manifest_is_told_by_name(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / layout.MANIFEST).write_text(json.dumps(example().to_json() | change))
    with pytest.raises(FormatError, match=message) as caught:
        Manifest.read(tmp_path)
    assert str(tmp_path / layout.MANIFEST) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", "{", "[" * 100_000])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / layout.MANIFEST).write_text(text, "latin-1")
    with pytest.raises(FormatError, match=r"recording\.json"):
        Manifest.read(tmp_path)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a recording"):
        Manifest.read(tmp_path)
    assert not layout.is_recording(tmp_path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_segments_are_listed_once_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "drops"
    folder.mkdir()
    start = 1_700_000_000_000_000_000
    for sequence, ending in (
        (10, "journal"),
        (2, "parquet"),
        (2, "journal"),
        (1_000_000, "parquet"),
    ):
        (folder / f"{layout.stem(sequence, start)}.{ending}").touch()
    for name in (".000003-20231114T221320Z.parquet", "000004-20231114T221320Z.parquet.damaged",
                 "notes.txt", "000005.parquet"):  # fmt: skip
        (folder / name).touch()
    found = layout.segments(tmp_path, "drops")
    assert [(s.sequence, s.sealed) for s in found] == [(2, True), (10, False), (1_000_000, True)]
    assert layout.stem(2, start) == "000002-20231114T221320Z"
    assert layout.segments(tmp_path, "none") == []


def test_of_two_files_of_a_number_the_listed_one_counts(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    names = [f"000001-20231114T22132{n}Z.parquet" for n in range(3)]
    for name in (*names, "000001-20231114T221321Z.journal", "foo.parquet", "000002-x.journal"):
        (tmp_path / "drops" / name).touch()
    found = layout.listing(tmp_path, "drops", {f"drops/{names[1]}"})
    assert [file.path.name for file in found.segments] == [names[1]]
    strays = {path.name for path in found.strays}
    assert strays == {names[0], names[2], "foo.parquet", "000002-x.journal"}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in (layout.LOCK, layout.MANIFEST):
        os.mkfifo(tmp_path / name)
    assert not layout.being_recorded(tmp_path)
    assert not layout.is_recording(tmp_path)
    with pytest.raises(FormatError, match=r"recording\.json cannot be read: it is no regular file"):
        Manifest.read(tmp_path)


def test_a_recording_is_being_recorded_while_its_lock_is_held(tmp_path: Path) -> None:
    assert not layout.being_recorded(tmp_path)
    with (tmp_path / layout.LOCK).open("w") as lock:
        assert not layout.being_recorded(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert layout.being_recorded(tmp_path)
    assert not layout.being_recorded(tmp_path)


def test_a_changed_bit_is_told_or_changes_nothing(tmp_path: Path) -> None:
    example().write(tmp_path)
    path = tmp_path / layout.MANIFEST
    data = path.read_bytes()
    told = []
    for at in [*range(0, len(data), 41), *range(len(data) - 90, len(data))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            assert Manifest.read(tmp_path) == example()
        except FormatError as exc:
            told.append(str(exc))
    assert len(told) > len(data) // 41
    assert all("recording.json is damaged" in text for text in told)


@pytest.mark.parametrize("change", [{"state": "comphete"}, {"tables": {"dropt": None}}])
def test_without_a_checksum_what_is_impossible_is_told(
    tmp_path: Path, change: dict[str, object]
) -> None:
    plain = example().to_json()
    if "tables" in change:
        change = {"tables": {"dropt": plain["tables"]["drops"]}}
    (tmp_path / layout.MANIFEST).write_text(json.dumps(plain | change))
    with pytest.raises(FormatError, match="damaged: ValueError"):
        Manifest.read(tmp_path)
    (tmp_path / layout.MANIFEST).write_text(json.dumps(plain))
    assert Manifest.read(tmp_path) == example()


@pytest.mark.parametrize("half", [b"\\uD800", b"\\udcff", b"\\ude00\\ud83d", b"\xed\xa0\x80"])
def test_half_a_character_is_damage(tmp_path: Path, half: bytes) -> None:
    plain = example().to_json() | {"notes": ["\U0001f600 HERE"]}
    text = json.dumps(plain).encode()
    (tmp_path / layout.MANIFEST).write_bytes(text)
    assert Manifest.read(tmp_path).notes == ["\U0001f600 HERE"]
    (tmp_path / layout.MANIFEST).write_bytes(text.replace(b"HERE", half))
    with pytest.raises(FormatError, match=r"recording\.json is damaged: .* half a character"):
        Manifest.read(tmp_path)
