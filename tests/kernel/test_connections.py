"""Connections, one row each at its end, against TCP_INFO, the programs and the counters."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.recorded import ask, of, one, row_of, rows_of
from lab import Child, Host
from lab.packet import Endpoint
from lab.recorder import Recorder
from lab.tcpinfo import TcpInfo, tcp_info
from lab.trouble import (
    lossy_transfer,
    short_connections,
    slow_tcp_reader,
    transfer,
    without_window_scaling,
)
from lab.trouble.sockets import endpoint, receive_exactly, tcp_client, tcp_server

Pair = tuple[Host, Host, dict[int, str]]


@pytest.mark.parametrize("version", [4, 6])
def test_both_sides(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    with client.counting() as of_client, server.counting() as of_server:
        done = transfer(server, client, address[version])
    ours, theirs = row_of(connections, client), row_of(connections, server)
    for row, side, counted in ((ours, "client", of_client), (theirs, "server", of_server)):
        assert (row["role"], row["ended"], row["open"]) == (side, "fin", False)
        assert (row["established"], row["reset_by"], row["sk_err"]) == (True, None, 0)
        assert row["ip_version"] == version
        assert row["congestion"]
        assert row["window_scaling"] is True
        assert row["snd_wnd_min"] <= row["snd_wnd"] <= row["snd_wnd_max"]
        assert row["rcv_wnd_min"] <= row["rcv_wnd"] <= row["rcv_wnd_max"]
        assert 0 < row["min_rtt_us"] <= row["srtt_us"]
        # Nothing is lost, but a machine that stands still for a moment sends again.
        assert row["total_retrans"] == counted.get("Tcp.RetransSegs", 0)
        assert (row["bytes_retrans"] == 0) is (row["total_retrans"] == 0)
    assert (ours["saddr"], ours["sport"]) == done.client == (theirs["daddr"], theirs["dport"])
    assert (ours["daddr"], ours["dport"]) == done.server == (theirs["saddr"], theirs["sport"])
    assert (ours["owner_pid"], ours["closed_by"]) == (done.client_pid, "local")
    assert theirs["closed_by"] == "remote"
    assert (ours["accepted"], theirs["accepted"]) == (None, True)
    # A SYN of the client and the FINs count a byte each.
    assert ours["bytes_sent"] - ours["bytes_retrans"] == done.sent == done.received
    assert ours["bytes_acked"] == done.sent + 2
    assert theirs["bytes_received"] == done.sent + 1
    assert theirs["bytes_sent"] - theirs["bytes_retrans"] == 1
    # What is on the wire in one direction arrives at the other side.
    assert ours["data_segs_out"] == theirs["data_segs_in"]
    assert abs(ours["duration_us"] / 1e6 - done.seconds) < 0.05
    assert 0 < ours["handshake_us"] <= ours["duration_us"]
    assert theirs["handshake_us"] is None
    assert ours["duration_us"] == (ours["mono_ns"] - ours["start_mono_ns"]) // 1000
    # TIME_WAIT is not part of the connection: the full socket ends before the peer's FIN.
    assert ours["state"] in ("FIN_WAIT1", "FIN_WAIT2", "CLOSING")
    assert theirs["state"] == "LAST_ACK"


def _talk(child: Child, address: str, peer: Endpoint | None) -> tuple[TcpInfo, Endpoint]:
    """Exchange some data, fall silent, tell TCP_INFO when asked, and hold the connection."""
    if peer is None:
        with tcp_server(address) as listener:
            child.ready(endpoint(listener))
            connection, _ = listener.accept()
    else:
        connection = tcp_client(peer)
    with connection:
        for _ in range(3):
            connection.sendall(bytes(100_000))
            receive_exactly(connection, 100_000)
        time.sleep(0.3)
        info = tcp_info(connection)
        child.ready()
        child.stopping(None)
        return info, endpoint(connection)


@contextlib.contextmanager
def silent_connection(pair: Pair, version: int = 4) -> Iterator[dict[Host, TcpInfo]]:
    """Hold a connection on which nothing happens; after the block, the sides' TCP_INFO."""
    server, client, address = pair
    listening = server.spawn_as("talks", _talk, address[version], None)
    target: Endpoint = listening.ready()
    connecting = client.spawn_as("talks-back", _talk, address[version], target)
    connecting.ready()
    listening.ready()
    infos: dict[Host, TcpInfo] = {}
    yield infos
    infos[client], infos[server] = connecting.stop()[0], listening.stop()[0]


_AGREE = tuple(name for name in TcpInfo._fields if name != "ca_state")


@pytest.mark.parametrize("version", [4, 6])
def test_open_connections_agree_with_tcp_info(pair: Pair, tmp_path: Path, version: int) -> None:
    recorder = Recorder(tmp_path / "rec", "--events", "connections")
    with silent_connection(pair, version) as infos:
        recorder.stop()
    server, client, _ = pair
    for host, side in ((client, "client"), (server, "server")):
        row = row_of(recorder, host)
        assert (row["ended"], row["open"], row["role"]) == ("open", True, side)
        assert (row["state"], row["closed_by"], row["ca_state"]) == ("ESTABLISHED", None, "Open")
        assert row["duration_us"] > 250_000
        # What the kernel wants to offer and what 16 bits and the scale can say.
        offered = min(infos[host].rcv_wnd, 65535 << infos[host].rcv_wscale)
        infos[host] = infos[host]._replace(rcv_wnd=offered)
        assert {n: row[n] for n in _AGREE} == {n: getattr(infos[host], n) for n in _AGREE}
    totals = one(
        recorder, "SELECT sum(events) - sum(recorded) FROM totals WHERE kind='connections'"
    )
    assert totals == 0


def _connect_raw(child: Child) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.connect(("127.0.0.1", 0))
        child.ready()
        child.stopping(None)


def test_connections_older_than_the_recording(pair: Pair, tmp_path: Path) -> None:
    server, client, _ = pair
    # A raw socket has the protocol and the state of a connection, and is none.
    client.spawn(_connect_raw).ready()
    with silent_connection(pair) as infos:
        with Recorder(tmp_path / "open", "--events", "connections") as never_moved:
            pass
        recorder = Recorder(tmp_path / "closed", "--events", "connections")
    time.sleep(0.2)
    recorder.stop()
    for host, side in ((client, "client"), (server, "server")):
        for recorded, ended in ((never_moved, {"open"}), (recorder, {"fin"})):
            row = row_of(recorded, host)
            assert row["ended"] in ended
            assert row["role"] == side
            assert row["established"] is True
            assert row["start_mono_ns"] is row["duration_us"] is row["handshake_us"] is None
            assert row["bytes_sent"] - row["bytes_retrans"] == 300_000
            assert row["bytes_retrans"] == infos[host].bytes_retrans
            assert row["snd_wnd_max"] >= row["snd_wnd_min"] > 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("without", ["server", "client"])
def test_window_scaling_switched_off(
    pair: Pair, connections: Recorder, version: int, without: str
) -> None:
    server, client, address = pair
    with without_window_scaling(server if without == "server" else client):
        done = transfer(server, client, address[version])
    assert not done.info.window_scaling
    columns = "window_scaling, snd_wscale, rcv_wscale, snd_wnd_max, rcv_wnd_max, rcv_wnd_min"
    for host in (server, client):
        row = row_of(connections, host, columns)
        assert (row["window_scaling"], row["snd_wscale"], row["rcv_wscale"]) == (False, 0, 0)
        assert row["snd_wnd_max"] <= 65535
        assert row["rcv_wnd_min"] <= row["rcv_wnd_max"] <= 65535
        assert row["rcv_wnd_max"] > 10000
    transfer(server, client, address[version])
    columns = "window_scaling, snd_wscale, rcv_wscale, snd_wnd_max, rcv_wnd_max"
    ours, theirs = (rows_of(connections, host, columns)[1] for host in (client, server))
    assert ours[0] is theirs[0] is True
    assert ours[1] == theirs[2] > 0
    assert ours[3] > 65535
    assert theirs[4] > 65535


@pytest.mark.parametrize("version", [4, 6])
def test_slow_reader(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    with server.counting() as at_server, client.counting() as at_client:
        slow = slow_tcp_reader(server, client, address[version], pauses=2, pause_s=1.0)
    ours, theirs = row_of(connections, client), row_of(connections, server)
    assert slow.sent == slow.received == ours["bytes_sent"] - ours["bytes_retrans"]
    # Until the window is full no time counts, and after the last pause it goes fast.
    assert slow.paused * 0.9 <= ours["rwnd_limited_us"] / 1e6 <= slow.seconds
    assert ours["rwnd_limited_us"] == slow.info.rwnd_limited_us
    assert ours["busy_us"] >= ours["rwnd_limited_us"]
    assert ours["snd_wnd_min"] == theirs["rcv_wnd_min"] == 0
    assert theirs["rcv_zero_windows"] == at_server["TcpExt.TCPToZeroWindowAdv"] >= 2
    assert ours["snd_zero_windows"] == theirs["rcv_zero_windows"]
    assert ours["zero_window_probes"] == at_client["TcpExt.TCPWinProbe"] >= 2
    assert theirs["zero_window_probes"] == theirs["snd_zero_windows"] == 0


def _fill(child: Child, target: Endpoint) -> None:
    with tcp_client(target) as connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection.send(bytes(65536))
        child.ready()
        child.stopping(None)


def test_stall_that_goes_on(pair: Pair, tmp_path: Path) -> None:
    """The time of a stall is not in the kernel's sums before it ends."""
    server, client, address = pair
    recorder = Recorder(tmp_path / "rec", "--events", "connections")
    with contextlib.ExitStack() as stack:
        stack.callback(recorder.kill)
        reader = server.spawn_as("reads-nothing", _listen, address[4])
        writer = client.spawn_as("stalled", _fill, reader.ready())
        writer.ready()
        time.sleep(1.5)
        stack.pop_all()
        recorder.stop()
    row = row_of(recorder, client)
    assert row["open"] is True
    assert 1.2e6 < row["rwnd_limited_us"] <= row["busy_us"] < 3e6
    theirs = row_of(recorder, server)
    assert (theirs["accepted"], theirs["open"], theirs["rcv_wnd_min"]) == (False, True, 0)


def _listen(child: Child, address: str) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        child.stopping(None)


@pytest.mark.parametrize("version", [4, 6])
def test_fast_reader_has_no_stall(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    transfer(server, client, address[version], size=100_000)
    columns = "zero_window_probes, snd_zero_windows, rcv_zero_windows, snd_wnd_min, rcv_wnd_min"
    for host in (server, client):
        row = row_of(connections, host, columns)
        assert [*row.values()][:3] == [0, 0, 0]
        assert row["snd_wnd_min"] > 0
        assert row["rcv_wnd_min"] > 0


def test_retransmits(pair: Pair, connections: Recorder) -> None:
    server, client, address = pair
    with client.counting() as counted:
        loss = lossy_transfer(server, client, address[4], lost_percent=10)
    row = row_of(connections, client)
    assert loss.dropped > 0
    assert row["total_retrans"] == counted["Tcp.RetransSegs"] > 0
    assert row["bytes_sent"] - row["bytes_retrans"] == loss.sent
    assert row["bytes_retrans"] > 0


@pytest.mark.parametrize("version", [4, 6])
def test_many_short_connections(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    short = short_connections(server, client, address[version], count=2000)
    for host, role, sent in ((client, "client", short.request), (server, "server", short.answer)):
        ((rows, flows, sides, total, ended),) = ask(
            connections,
            f"""SELECT count(*), count(DISTINCT start_mono_ns), list(DISTINCT role),
                       sum(bytes_sent), list(DISTINCT ended)
                FROM connections WHERE {of(host)}""",
        )
        assert (rows, flows, sides, total) == (2000, 2000, [role], 2000 * sent)
        assert ended == ["fin"]
        totals = f"SELECT sum(events), sum(recorded) FROM totals WHERE {of(host)}"
        assert ask(connections, totals, totals=True) == [(2000, 2000)]


def test_kind_is_recorded_only_on_request(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec") as plain:
        pass
    assert not (plain.folder / "connections").exists()
