"""Network namespaces: found, told apart, entered and read."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from droptape.format.tables import COUNTERS
from droptape.recorder.netns import own_netns
from droptape.recorder.sampling import namespaces
from droptape.recorder.sampling.counters import CounterReader
from droptape.recorder.sampling.namespaces import AwayError, Namespaces, namespace_cookie
from droptape.recorder.sampling.settings import SettingsReader


@pytest.fixture
def stranger() -> object:
    """A process in a network namespace of its own."""
    script = "echo 123 > /proc/sys/net/core/somaxconn && echo ready && read x"
    child = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        if not child.stdout.readline():
            pytest.skip("cannot make a network namespace here")
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def test_namespaces_are_found_entered_and_left(stranger: subprocess.Popen[bytes]) -> None:
    inum = Path(f"/proc/{stranger.pid}/ns/net").stat().st_ino
    spaces = Namespaces()
    assert spaces.home == own_netns()
    spaces.search()
    assert {spaces.home, inum} <= set(spaces.doors)
    assert spaces.born_after[inum] is None
    # The process of the first door has ended meanwhile.
    spaces.doors[inum].insert(0, "/proc/0/ns/net")
    assert not spaces.due()
    with spaces.inside(inum):
        assert Path("/proc/thread-self/ns/net").stat().st_ino == inum
        there = namespace_cookie()
    assert (there == 0) == (namespace_cookie() == 0)
    assert there != namespace_cookie() or there == 0
    assert Path("/proc/thread-self/ns/net").stat().st_ino == spaces.home
    stranger.kill()
    stranger.wait()
    with pytest.raises(OSError, match="No such"), spaces.inside(inum):
        pass
    spaces.close()


def test_counters_of_a_namespace_that_comes_and_goes(stranger: subprocess.Popen[bytes]) -> None:
    inum = Path(f"/proc/{stranger.pid}/ns/net").stat().st_ino
    spaces = Namespaces()
    spaces.search()
    assert spaces.born_after[inum] is None
    doors = spaces.doors.pop(inum)
    reader = CounterReader(spaces)
    before = reader.read()
    assert before.dtype == COUNTERS.dtype
    assert inum not in before["netns"]
    assert spaces.home in before["netns"]
    spaces.doors[inum], spaces.born_after[inum] = doors, 12345
    came = reader.read()
    (life,) = came[(came["netns"] == inum) & (came["name"] == b"netns.life")]
    assert (life["value"], life["mono_ns"]) == (1, 12345)
    stranger.kill()
    stranger.wait()
    went = reader.read(all_files=True)
    assert [r["value"] for r in went[went["netns"] == inum]] == [1]
    assert inum not in spaces.doors
    spaces.close()


@pytest.mark.parametrize("cost_s", [0.001, 0.01])
def test_many_namespaces_are_read_in_turn(monkeypatch: pytest.MonkeyPatch, cost_s: float) -> None:
    spaces = Namespaces()
    others = list(range(1, 21))
    spaces.doors = {inum: [] for inum in [*others, spaces.home]}
    read: list[int] = []

    def read_space(_self: object, inum: int, _all_files: object) -> list[object]:
        until = time.thread_time() + cost_s
        while time.thread_time() < until:
            pass
        read.append(inum)
        return []

    monkeypatch.setattr(CounterReader, "_read_space", read_space)
    monkeypatch.setattr(Namespaces, "inside", lambda _self, _inum: nullcontext())
    reader = CounterReader(spaces)
    reader.read()
    assert sorted(read) == sorted(spaces.doors)
    seen: list[int] = []
    for _ in range(20):
        read.clear()
        reader._last -= 1
        reader.read()
        assert read[0] == spaces.home
        assert 2 <= len(read) < 12
        seen += read[1:]
    times = [seen.count(inum) for inum in others]
    assert max(times) - min(times) <= 1
    assert min(times) > 0
    read.clear()
    reader.read(all_files=True)
    assert sorted(read) == sorted(spaces.doors)
    spaces.close()


def test_a_namespace_that_got_the_number_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = Namespaces()
    spaces.search()
    reader = CounterReader(spaces)
    first = reader.read(all_files=True)
    assert 1 in first["value"][(first["name"] == b"netns.life") & (first["netns"] == spaces.home)]
    monkeypatch.setattr("droptape.recorder.sampling.counters.namespace_cookie", lambda: 77)
    second = reader.read(all_files=True)
    lives = second[(second["name"] == b"netns.life") & (second["netns"] == spaces.home)]
    assert sorted(lives["value"]) == [1, 2]
    assert lives["mono_ns"][0] < lives["mono_ns"][1]
    # Its counters begin at 0, at the last reading of the one before.
    rows = second[(second["name"] == b"Ip.InReceives") & (second["netns"] == spaces.home)]
    assert rows["value"][0] == 0
    assert rows["mono_ns"][0] == lives["mono_ns"][1]
    spaces.close()


def test_a_namespace_that_was_not_found_for_a_while_does_not_begin_anew(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it counted before must not look as if it had happened since."""
    inum = Path(f"/proc/{stranger.pid}/ns/net").stat().st_ino
    spaces = Namespaces()
    spaces.search()
    reader = CounterReader(spaces)
    reader.read(all_files=True)
    doors = spaces.doors.pop(inum)  # nobody is in it, and it has no name
    del spaces.born_after[inum]
    reader.read(all_files=True)
    missed_ns = time.monotonic_ns()
    spaces.doors[inum], spaces.born_after[inum] = doors, missed_ns
    came = reader.read(all_files=True)
    (life,) = came[(came["netns"] == inum) & (came["name"] == b"netns.life")]
    assert life["value"] == 2
    assert life["mono_ns"] > missed_ns
    spaces.close()


def test_when_a_namespace_came(stranger: subprocess.Popen[bytes]) -> None:
    spaces = Namespaces()
    spaces.search()
    with subprocess.Popen(["unshare", "-n", "sleep", "60"]) as later:
        for _ in range(100):
            spaces.search()
            inum = Path(f"/proc/{later.pid}/ns/net").stat().st_ino
            if inum in spaces.doors and inum != spaces.home:
                break
        born = spaces.born_after[inum]
        spaces.search()
        assert spaces.born_after[inum] == born
        later.kill()
    assert born is not None
    assert born > 0
    spaces.search()
    assert inum not in spaces.born_after
    spaces.close()


def test_settings_of_all_namespaces_and_what_changes(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    inum = Path(f"/proc/{stranger.pid}/ns/net").stat().st_ino
    spaces = Namespaces()
    spaces.search()
    monkeypatch.setattr("droptape.recorder.sampling.settings._OFTEN_S", 0.0)
    monkeypatch.setattr("droptape.recorder.sampling.settings._SHARE", 1e9)
    reader = SettingsReader(spaces)
    values = {(r["netns"], r["name"]): r["value"] for r in reader.read()}
    assert values[inum, "net.core.somaxconn"] == "123"
    assert (spaces.home, "net.ipv4.tcp_syncookies") in values
    assert reader.read() == []
    with spaces.inside(inum):
        Path("/proc/sys/net/core/somaxconn").write_text("77")
    assert [(r["netns"], r["name"], r["value"]) for r in reader.read()] == [
        (inum, "net.core.somaxconn", "77")
    ]
    spaces.close()


def test_names_of_mounts_need_not_be_text(tmp_path: Path) -> None:
    (tmp_path / "thread-self/ns").mkdir(parents=True)
    (tmp_path / "thread-self/ns/net").touch()
    (tmp_path / "self").mkdir()
    bound = tmp_path / os.fsdecode(b"a\x0bb \t\n\\\r\x1c\xff")
    bound.touch()
    path = os.fsencode(bound)
    for byte in b"\\ \t\n":
        path = path.replace(bytes([byte]), b"\\%03o" % byte)
    lines = [
        b"29 1 0:26 / /tmp/a\x0bb\x0cc\x85\xe2\x80\xa8d\xff rw - tmpfs none rw",
        b"cut off",
        b"30 1 0:4 net:[4026532247] %s rw - nsfs nsfs rw" % path,
    ]
    (tmp_path / "self/mountinfo").write_bytes(b"\n".join(lines) + b"\n")
    spaces = Namespaces(tmp_path)
    spaces.search()
    assert spaces.doors[bound.stat().st_ino] == [str(bound)]
    spaces.close()


def test_what_cannot_be_searched_now_hides_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "thread-self/ns").mkdir(parents=True)
    (tmp_path / "thread-self/ns/net").touch()
    (tmp_path / "self/mountinfo").mkdir(parents=True)  # no memory, too many open files
    spaces = Namespaces(tmp_path)
    spaces.doors, spaces.born_after = {7: ["here"]}, {7: None}
    with pytest.raises(OSError, match="mountinfo"):
        spaces.search()
    assert spaces.doors == {7: ["here"]}
    assert spaces.born_after == {7: None}
    spaces.close()


def test_away_from_home_nothing_is_read_as_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = Namespaces()
    spaces.search()
    spaces.doors[1] = [f"/proc/{os.getpid()}/ns/net"]
    spaces.born_after[1] = None
    monkeypatch.setattr(Namespaces, "_open", staticmethod(lambda _path, _inum: None))

    def barred(_descriptor: int, path: str) -> None:
        raise PermissionError(1, "barred", path)

    free = namespaces._enter
    monkeypatch.setattr(namespaces, "_enter", barred)
    with pytest.raises(AwayError, match="barred"), spaces.inside(1):
        pass
    with pytest.raises(AwayError), spaces.inside(spaces.home):
        pytest.fail("this is not home")
    counters, settings = CounterReader(spaces), SettingsReader(spaces)
    assert spaces.home not in counters.read(all_files=True)["netns"]
    assert "barred" in counters.refused
    with pytest.raises(AwayError):
        settings.read()
    assert spaces.home in spaces.doors
    monkeypatch.setattr(namespaces, "_enter", lambda *_: None)
    assert spaces.home in counters.read(all_files=True)["netns"]
    monkeypatch.setattr(namespaces, "_enter", free)
    spaces.close()


def test_what_cannot_be_read_of_a_namespace_costs_no_other(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    inum = Path(f"/proc/{stranger.pid}/ns/net").stat().st_ino
    spaces = Namespaces()
    spaces.search()
    spaces.doors = {inum: spaces.doors[inum], spaces.home: spaces.doors[spaces.home]}
    reader, right = CounterReader(spaces), CounterReader._read_space
    spoilt: list[object] = [(1, "\udcff", "link.rx_errors", 1)]

    def read_space(self: CounterReader, inum_: int, all_files: bool) -> list[object]:
        return [*right(self, inum_, all_files), *(spoilt if inum_ == inum else ())]

    monkeypatch.setattr(CounterReader, "_read_space", read_space)
    first = reader.read(all_files=True)
    assert len(first[first["netns"] == spaces.home]) > 10
    assert f"namespace {inum}: UnicodeEncodeError" in reader.refused
    # What was lost is said anew.
    spoilt.clear()
    second = reader.read(all_files=True)
    assert b"netns.life" in second["name"][second["netns"] == inum]
    assert b"Ip.DefaultTTL" in second["name"][second["netns"] == inum]
    spaces.close()
