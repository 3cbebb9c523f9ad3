"""Counters and listening sockets, without a kernel: text in, rows out."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.format.tables import LISTENERS
from droptape.recorder.sampling import parse, qdiscs
from droptape.recorder.sampling.changes import Changes
from droptape.recorder.sampling.listeners import ListenerReader
from droptape.recorder.sampling.namespaces import Namespaces
from droptape.recorder.sampling.processors import UnwatchedProcessors
from droptape.recorder.sampling.sampler import Sampler


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
    changes.touch(490, 500)
    assert changes.end() == [(490, "", "netns.life", 1)]


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


def _drops(**devices: int) -> parse.Reading:
    return tuple(("link.rx_dropped", name) for name in devices), list(devices.values())


def test_a_device_that_went_and_one_of_its_name_that_came() -> None:
    changes = Changes(1, None)
    changes.update("link", _drops(lo=0, a=7, b=2), 1)
    changes.begin(2)
    assert changes.update("link", _drops(lo=1, a=9), 10)[-1] == (10, "a", "link.rx_dropped", 9)
    changes.touch(11, 11)
    # A device that one reading left out goes on where it was.
    assert changes.update("link", _drops(lo=1, a=9, b=2), 20) == []
    assert changes.update("link", _drops(lo=1, a=9), 30) == []
    assert changes.update("link", _drops(lo=2, a=9), 40) == [
        (40, "b", "link.rx_dropped", 0),
        (40, "lo", "link.rx_dropped", 2),
    ]
    changes.touch(41, 41)
    assert changes.update("link", _drops(lo=2, a=9, b=5), 50) == [
        (41, "b", "link.rx_dropped", 0),
        (50, "b", "link.rx_dropped", 5),
    ]
    assert changes.update("link", _drops(lo=2, a=0, b=5), 60) == [(60, "a", "link.rx_dropped", 0)]
    assert changes.update("link", _drops(lo=2, a=3, b=5), 70) == [
        (60, "a", "link.rx_dropped", 0),
        (70, "a", "link.rx_dropped", 3),
    ]


def test_what_is_known_of_devices_that_went_is_forgotten() -> None:
    changes = Changes(1, None)
    rows: list[tuple[int, str, str, int]] = []
    for second in range(1, 500):
        devices = {f"veth{second + k}": 3 for k in range(3)}
        rows += changes.update("link", _drops(lo=0, **devices), second)
        if second == 1:
            changes.begin(1)
    assert max(map(len, (changes._values, changes._written, changes._since))) < 10
    assert sum(value == 3 for *_, value in rows) == 501
    assert len({device for _, device, _, value in rows if value == 0}) >= 495


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


def test_more_listeners_on_a_port_than_are_watched_is_told() -> None:
    reader = ListenerReader(Loaded([], [], [], 1, 1))
    few = np.concatenate([_listener(80, inode=n) for n in range(31)])
    reader.changed(few)
    assert reader.crowded == ""
    reader.changed(np.concatenate([few, _listener(80, inode=99)]))
    assert "32 sockets listen on port 80 of network namespace 0" in reader.crowded


def test_listeners_beyond_what_is_watched_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = 0
    monkeypatch.setattr(syscall, "map_lookup", lambda fd, key, value: value.fill(missed))
    reader = ListenerReader(Loaded([], [], [], 1, 1, {"map:settings": 5}))
    reader.read()
    assert reader.crowded == ""
    missed = 1
    reader.read()
    assert "16,384 listening sockets are watched at most" in reader.crowded


@pytest.mark.parametrize(
    ("bases", "online", "told"),
    [
        ([7, 7, 7, 7], "0-3", ""),
        ([7, 7, 0, 0], "0-1", ""),
        ([7, 7, 0, 0], "0-2", "processor 2 came online"),
        ([7, 0, 7, 0], "0,1,3", "processor 1, 3 came online"),
        ([0, 0, 0, 0], "0-3", ""),
    ],
)
def test_processors_that_came_unwatched_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bases: list[int], online: str, told: str
) -> None:
    monkeypatch.setattr(syscall, "map_lookup", lambda fd, key, value: value.fill(bases[key[0]]))
    (tmp_path / "online").write_text(f"{online}\n")
    came = UnwatchedProcessors(Loaded([], [], [], 4, 1, {"map:cpu_base": 5})).came(
        tmp_path / "online"
    )
    assert came.startswith(told)
    assert bool(came) == bool(told)


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
    sampler.start(lambda: None)
    until = time.monotonic() + 30
    while {table.name for table, _ in list(sampler._taken)} < {"counters", "sysctls"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    sampler.stop()
    assert sampler._trouble["namespaces"] == "KeyError: 'surprise'"


def test_what_waits_for_the_first_sample_goes_on_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy host needs seconds for it, and the rings fill in less."""
    done: list[str] = []

    def search(self: Namespaces) -> None:
        until = time.monotonic() + 30
        while len(done) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        done.append("sample")

    monkeypatch.setattr(Namespaces, "search", search)
    sampler = Sampler(Loaded([], [], [], 1, 1), lambda *_: None)
    sampler.start(lambda: done.append("drain"))
    sampler.stop()
    assert done[:3] == ["drain"] * 3


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
