"""How connections end: the columns `ended`, `closed_by` and `reset_by`, for each way there is."""

from __future__ import annotations

import contextlib
import ctypes
import socket

import pytest

from kernel.recorded import row_of, rows_of
from lab import Child, Host, Lab
from lab.packet import Endpoint
from lab.recorder import Recorder
from lab.trouble import (
    Ending,
    Last,
    after_close,
    closed_tcp_port,
    end_connection,
    never_accepted,
    no_port_left,
    syn_blackhole,
)
from lab.trouble.sockets import endpoint, receive_exactly, tcp_server
from lab.wire import Wire

Pair = tuple[Host, Host, dict[int, str]]

ENDINGS: list[tuple[Ending, tuple[str, str, str | None], tuple[str, str, str | None]]] = [
    ("client", ("fin", "local", None), ("fin", "remote", None)),
    ("server", ("fin", "remote", None), ("fin", "local", None)),
    ("half_close", ("fin", "local", None), ("fin", "remote", None)),
    ("linger", ("reset", "remote", "remote"), ("reset", "local", "local")),
    ("unread", ("reset", "remote", "remote"), ("reset", "local", "local")),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("how", "ours", "theirs"), ENDINGS)
def test_who_closed(
    pair: Pair,
    connections: Recorder,
    version: int,
    how: Ending,
    ours: tuple[str, str, str | None],
    theirs: tuple[str, str, str | None],
) -> None:
    server, client, address = pair
    ended = end_connection(server, client, address[version], how)
    columns = "ended, closed_by, reset_by"
    (at_client,) = rows_of(connections, client, f"{columns}, saddr, sport, bytes_sent, established")
    (at_server,) = rows_of(connections, server, columns)
    assert at_client == (*ours, *ended.client, ended.sent, True)
    assert at_server == theirs


@pytest.mark.parametrize("version", [4, 6])
def test_data_after_the_close(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    for _ in range(5):
        end_connection(server, client, address[version], "late_data")
    columns = "closed_by, reset_by"
    ours = rows_of(connections, client, columns)
    theirs = rows_of(connections, server, f"ended, {columns}")
    # In TIME_WAIT's place, FIN_WAIT2 answers for the socket that is gone: that reset is its own.
    assert set(ours) <= {("local", "local"), ("local", None)}
    assert theirs == [("reset", "remote", "remote")] * 5


AFTER_CLOSE: list[tuple[Last, str, str | None]] = [
    ("data", "reset", "local"),
    ("data_with_ack", "fin", "local"),
    ("reset", "reset", "remote"),
    ("fin", "fin", None),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("last", "ended", "reset_by"), AFTER_CLOSE)
def test_what_comes_after_our_close(
    lab: Lab, connections: Recorder, version: int, last: Last, ended: str, reset_by: str | None
) -> None:
    """The kernel calls tcp_reset for its own reset too: the row must tell them apart."""
    client = lab.host("client")
    with Wire(client) as wire, client.counting() as counted:
        source = after_close(client, wire, last, version=version)
    columns = "ended, closed_by, reset_by, saddr, sport, established"
    rows = rows_of(connections, client, columns)
    assert rows == [(ended, "local", reset_by, *source, True)]
    assert counted.get("Tcp.OutRsts", 0) == (reset_by == "local")


@pytest.mark.parametrize("how", ["unplugged", "silent_peer"])
def test_timed_out(pair: Pair, connections: Recorder, how: Ending) -> None:
    server, client, address = pair
    end_connection(server, client, address[4], how)
    row = row_of(connections, client)
    assert (row["ended"], row["closed_by"], row["sk_err"]) == ("timed_out", None, 110)
    assert row["established"] is True


@pytest.mark.parametrize("version", [4, 6])
def test_refused(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    closed = closed_tcp_port(server, client, address[version])
    columns = "ended, closed_by, reset_by, sk_err, established, window_scaling, snd_wnd, state"
    rows = rows_of(connections, client, columns)
    expected = ("refused", "remote", "remote", 111, False, None, None, "SYN_SENT")
    assert rows == [expected] * closed.attempts
    assert rows_of(connections, server, "ended") == []


@pytest.mark.parametrize("version", [4, 6])
def test_syn_that_nobody_answers(lab: Lab, connections: Recorder, version: int) -> None:
    client = lab.host("client")
    client.sysctl("net.ipv4.tcp_syn_retries", 1)
    with Wire(client) as wire:
        hole = syn_blackhole(client, wire, version=version, seconds=0.3)
        waited = syn_blackhole(client, wire, version=version, seconds=3.5)
    columns = "ended, closed_by, sk_err, established, segs_out, saddr, sport, handshake_us, srtt_us"
    given_up, timed_out = rows_of(connections, client, columns)
    assert given_up == ("abandoned", "local", 0, False, 1, *hole.client, None, None)
    assert timed_out == ("timed_out", None, 110, False, waited.syns, *waited.client, None, None)


def test_no_port_left(pair: Pair, connections: Recorder) -> None:
    server, client, address = pair
    assert no_port_left(client, server, address[4]) == 1
    rows = rows_of(connections, client, "ended, segs_out, sport, established")
    assert [r for r in rows if r[0] == "not_sent"] == [("not_sent", 0, 0, False)]
    assert len(rows) == 2


@pytest.mark.parametrize("version", [4, 6])
def test_never_accepted(pair: Pair, connections: Recorder, version: int) -> None:
    server, client, address = pair
    connected = never_accepted(server, client, address[version])
    columns = "accepted, established, role, ended, reset_by"
    rows = rows_of(connections, server, columns)
    assert rows == [(False, True, "server", "reset", "local")] * connected
    assert rows_of(connections, client, "reset_by") == [("remote",)] * connected


def test_a_socket_that_connects_again(pair: Pair, connections: Recorder) -> None:
    server, client, address = pair
    listening = server.spawn_as("listener", _listen_for, address[4], 2)
    target: Endpoint = listening.ready()

    def twice() -> None:
        with socket.socket() as again:
            for _ in range(2):
                again.connect(target)
                again.sendall(b"12345")
                # connect() to AF_UNSPEC dissolves the connection (tcp_disconnect).
                receive_exactly(again, 1)
                _dissolve(again)

    client.call(twice)
    listening.join()
    rows = rows_of(connections, client, "ended, reset_by, bytes_sent")
    assert rows == [("reset", "local", 5)] * 2


def _listen_for(child: Child, address: str, count: int) -> None:
    with tcp_server(address) as listener:
        child.ready(endpoint(listener))
        for _ in range(count):
            with listener.accept()[0] as connection:
                receive_exactly(connection, 5)
                connection.sendall(b"!")
                with contextlib.suppress(ConnectionResetError):
                    connection.recv(1)


def _dissolve(connection: socket.socket) -> None:
    nowhere = ctypes.create_string_buffer(16)  # sa_family AF_UNSPEC
    assert ctypes.CDLL(None).connect(connection.fileno(), nowhere, 16) == 0
