"""Counters and listening sockets, without a kernel: text in, rows out."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf.client import Loaded
from droptape.format.tables import COUNTERS, LISTENERS
from droptape.recorder.netns import own_netns
from droptape.recorder.sampling import namespaces, parse, qdiscs
from droptape.recorder.sampling.changes import Changes
from droptape.recorder.sampling.counters import CounterReader
from droptape.recorder.sampling.listeners import ListenerReader
from droptape.recorder.sampling.namespaces import AwayError, Namespaces, namespace_cookie
from droptape.recorder.sampling.sampler import Sampler
from droptape.recorder.sampling.settings import SettingsReader


def test_pairs_of_lines() -> None:
    text = b"TcpExt: ListenDrops X\nTcpExt: 7 -1\nIpExt: InOctets\nIpExt: 18446744073\n"
    keys, values = parse.pairs(text)
    assert keys == (("TcpExt.ListenDrops", ""), ("TcpExt.X", ""), ("IpExt.InOctets", ""))
    assert values == [7, -1, 18446744073]
    assert parse.pairs(text)[0] is keys


def test_snmp6() -> None:
    keys, values = parse.snmp6(b"Ip6InReceives   \t1\nUdp6NoPorts  3\nUdpLite6InErrors 0\n")
    assert [key[0] for key in keys] == ["Ip6.InReceives", "Udp6.NoPorts", "UdpLite6.InErrors"]
    assert values == [1, 3, 0]


def test_devices() -> None:
    text = (
        b"Inter-|   Receive  |  Transmit\n face |bytes ...\n"
        b"    lo: 100 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n"
        b"a:b:16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31\n"
    )
    reading = dict(zip(*parse.link(text), strict=True))
    assert reading["link.rx_dropped", "lo"] == 3
    assert reading["link.tx_dropped", "lo"] == 11
    assert reading["link.rx_errors", "a:b"] == 18
    assert reading["link.tx_packets", "a:b"] == 25
    assert ("link.rx_bytes", "lo") not in reading


def test_per_cpu_files_are_added_up() -> None:
    softnet = b"00000010 0000000a 00000001 0\n00000020 00000001 00000002 0\n"
    assert parse.softnet(softnet) == (
        (("softnet.dropped", ""), ("softnet.time_squeeze", "")),
        [11, 3],
    )
    text = (
        b"entries  clashres found new invalid drop early_drop\n"
        b"0000001f 00000000 0 0 00000001 0000000a 00000002\n"
        b"0000001f 00000000 0 0 00000000 00000001 00000000\n"
    )
    keys, values = parse.conntrack(text)
    assert dict(zip((key[0] for key in keys), values, strict=True)) == {
        "conntrack.count": 31,
        "conntrack.invalid": 1,
        "conntrack.drop": 11,
        "conntrack.early_drop": 2,
    }


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _qdisc(index: int, parent: int, kind: bytes, drops: int) -> bytes:
    queue = _attribute(3, struct.pack("=IIIII", 1, 2, drops, 3, 4))
    body = struct.pack("=BxxxiIII", 0, index, 0x10000, parent, 1)
    body += _attribute(1, kind + b"\0") + _attribute(7, _attribute(1, bytes(12)) + queue)
    return struct.pack("=IHHII", 16 + len(body), 36, 2, 1, 0) + body


def test_qdiscs() -> None:
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    root, child = _qdisc(4, 0xFFFFFFFF, b"htb", 17), _qdisc(4, 0x10001, b"pfifo", 17)
    data = root + child
    assert list(qdiscs.parse(data)) == [(4, 0xFFFFFFFF, "htb", 17), (4, 0x10001, "pfifo", 17)]
    assert not qdiscs.ended(data)
    assert qdiscs.ended(data + done)
    assert list(qdiscs.parse(b"\1\0\0\0" + bytes(12))) == []


KEYS = (("TcpExt.ListenDrops", ""), ("Tcp.RetransSegs", ""))


def test_the_first_row_is_what_was_and_the_last_what_is() -> None:
    changes = Changes(1, None)
    first = changes.update("snmp", (KEYS, [0, 9]), 100)
    assert first == [(100, "", "Tcp.RetransSegs", 9)]
    assert changes.begin(101) == [(101, "", "netns.life", 1)]
    assert changes.update("snmp", (KEYS, [0, 9]), 200) == []
    # The baseline of a counter that was 0 comes with its first change.
    assert changes.update("snmp", (KEYS, [5, 9]), 300) == [
        (101, "", "TcpExt.ListenDrops", 0),
        (300, "", "TcpExt.ListenDrops", 5),
    ]
    assert changes.update("snmp", (KEYS, [6, 10]), 400) == [
        (400, "", "TcpExt.ListenDrops", 6),
        (400, "", "Tcp.RetransSegs", 10),
    ]
    changes.touch(500)
    assert changes.end() == [(500, "", "netns.life", 1)]


def test_a_namespace_that_came_later_began_at_0() -> None:
    changes = Changes(2, 50)
    assert changes.update("snmp", (KEYS, [3, 0]), 100) == [
        (50, "", "TcpExt.ListenDrops", 0),
        (100, "", "TcpExt.ListenDrops", 3),
    ]
    assert changes.begin(101) == [(50, "", "netns.life", 2)]


def test_packets_are_written_beside_drops_only() -> None:
    def link(drops: int, packets: int) -> parse.Reading:
        return (("link.rx_dropped", "eth0"), ("link.rx_packets", "eth0")), [drops, packets]

    changes = Changes(1, None)
    changes.update("link", link(1, 100), 1)
    changes.begin(2)
    assert changes.update("link", link(1, 200), 3) == []
    assert changes.update("link", link(2, 300), 4) == [
        (4, "eth0", "link.rx_dropped", 2),
        (4, "eth0", "link.rx_packets", 300),
    ]


def _listener(port: int, **columns: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    row = np.zeros(1, LISTENERS.dtype)
    row["lport"], row["open"] = port, 1
    for name, value in columns.items():
        row[name] = value
    return row


def test_listeners_that_changed_and_those_that_are_gone() -> None:
    reader = ListenerReader(Loaded([], [], [], 1, 1))
    assert len(reader.read()) == 0  # a kernel without the iterator
    both = np.concatenate([_listener(80), _listener(443)])
    first = reader.changed(both)
    assert list(first["lport"]) == [80, 443]
    assert all(first["mono_ns"] > 0)
    assert len(reader.changed(both[::-1].copy())) == 0
    fuller = np.concatenate([_listener(443, accept_queue=7), _listener(80)])
    assert [(r["lport"], r["accept_queue"]) for r in reader.changed(fuller)] == [(443, 7)]
    gone = reader.changed(_listener(80))
    assert [(r["lport"], r["open"]) for r in gone] == [(443, 0)]
    assert list(reader.changed(_listener(80), all_rows=True)["lport"]) == [80]


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
    assert lives["mono_ns"][0] == lives["mono_ns"][1]
    # Its counters begin at 0, at the last reading of the one before.
    rows = second[(second["name"] == b"Ip.InReceives") & (second["netns"] == spaces.home)]
    assert rows["value"][0] == 0
    assert rows["mono_ns"][0] == lives["mono_ns"][0]
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


@pytest.mark.skipif(os.geteuid() != 0, reason="a queueing discipline needs root to be made")
def test_drops_of_a_real_qdisc() -> None:
    probe = "import sys; from droptape.recorder.sampling import qdiscs; print(qdiscs.read())"
    script = f"ip link set lo up && tc qdisc add dev lo root pfifo limit 1 && exec $0 -c '{probe}'"
    import sys

    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Specified qdisc" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.strip() == "((('qdisc.drops', 'lo'),), [0])", done.stderr


def test_reading_qdiscs_of_this_namespace() -> None:
    keys, values = qdiscs.read()
    names = {name for _, name in socket.if_nameindex()}
    assert len(keys) == len(values)
    assert {device for _, device in keys} <= names


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


@pytest.mark.parametrize("where", ["__init__", "search", "_bound"])
def test_sampling_goes_on_after_any_exception(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    right, calls = getattr(Namespaces, where), 0

    def wrong_at_first(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise KeyError("surprise")
        return right(*arguments)

    monkeypatch.setattr("droptape.recorder.sampling.sampler._PERIOD_S", 0.02)
    monkeypatch.setattr("droptape.recorder.sampling.namespaces._SHORTEST_S", 0.02)
    monkeypatch.setattr(Namespaces, where, wrong_at_first)
    sampler = Sampler(Loaded([], [], [], 1, 1), lambda *_: None)
    sampler.start()
    until = time.monotonic() + 30
    while {table.name for table, _ in list(sampler._taken)} < {"counters", "sysctls"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    sampler.stop()
    assert sampler._trouble["namespaces"] == "KeyError: 'surprise'"


def test_what_fails_is_tried_again_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, []

    def fail() -> None:
        calls.append(now)
        raise ValueError("no")

    monkeypatch.setattr("droptape.recorder.sampling.sampler.time.monotonic", lambda: now)
    sampler = Sampler(Loaded([], [], [], 1, 1), lambda *_: None)
    for second in range(300):
        now = float(second)
        sampler._attempt("counters", fail)
    assert calls == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    sampler.stop()
    sampler._attempt("counters", fail)  # the last sample is always tried
    assert calls[-1] == 299


def test_a_device_whose_name_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    root = _qdisc(4, 0xFFFFFFFF, b"tbf", 17)
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)

    class Asking:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Asking:
            return self

        def __exit__(self, *_: object) -> None: ...
        def settimeout(self, _: float) -> None: ...
        def send(self, _: bytes) -> None: ...
        def recv(self, _: int) -> bytes:
            return root + done

    monkeypatch.setattr("droptape.recorder.sampling.qdiscs.socket.socket", Asking)
    monkeypatch.setattr("socket.if_indextoname", lambda _: os.fsdecode(b"d\xff"))
    assert qdiscs.read() == ((("qdisc.drops", "d\\xff"),), [17])


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
