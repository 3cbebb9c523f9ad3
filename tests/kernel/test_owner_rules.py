"""Who owns an event: a case for each rule of bpf/droptape/bpf/core/owner.h."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.recorded import ask
from lab import Host, Lab
from lab.packet import Endpoint
from lab.process import Child
from lab.recorder import Recorder
from lab.trouble import dropping, owners, the_first
from lab.trouble.owners import Waiting

Owner = tuple[int | None, str, str, bool]

both_versions = pytest.mark.parametrize("version", [4, 6])


class Pair:
    """A host whose sockets are watched, and a peer."""

    def __init__(self, lab: Lab, version: int = 4) -> None:
        self.host, self.peer = lab.host("host"), lab.host("peer")
        link = lab.link(self.host, self.peer)
        self.address = link.address(self.host, version)
        self.listening = self.peer.spawn_as(
            "peer", owners.be_peer, link.address(self.peer, version)
        )
        self.far: Endpoint = self.listening.ready()

    @contextmanager
    def deaf(self, seconds: float = 1.0) -> Iterator[None]:
        """Let the peer hear nothing in the block and a while after."""
        with dropping(self.peer, f"tcp dport {self.far.port}"):
            yield
            time.sleep(seconds)


def owners_of(recorder: Recorder, table: str, host: Host, where: str = "true") -> set[Owner]:
    rows = ask(
        recorder,
        f"""SELECT DISTINCT owner_pid, owner_comm, owner_source, owner_shared FROM {table}
            WHERE netns = {host.inum} AND {where}""",
    )
    return set(rows)


@pytest.mark.parametrize("how", ["recv", "poll", "epoll"])
def test_of_several_the_one_that_waits(lab: Lab, recorder: Recorder, how: Waiting) -> None:
    pair = Pair(lab)
    parent = pair.host.spawn_as("keeper", owners.let_child_use, pair.far, how)
    user = parent.ready()
    with pair.deaf():
        parent.send("go")
        time.sleep(1)
        parent.send("end")
    found = owners_of(recorder, "retransmits", pair.host, "state = 'ESTABLISHED'")
    assert found == {(user, "user", "open", True)}
    # The last copy was closed by the parent, which only kept it.
    found = owners_of(recorder, "retransmits", pair.host, "state = 'FIN_WAIT1'")
    assert {owner[:2] for owner in found} == {(user, "user")}


@both_versions
def test_of_several_the_one_that_sent_last(lab: Lab, tmp_path: Path, version: int) -> None:
    pair = Pair(lab, version)
    with Recorder(tmp_path / "rec", "--track-io") as recorder:
        parent = pair.host.spawn_as("keeper", owners.let_child_use, pair.far, "sleep")
        user = parent.ready()
        with pair.deaf():
            parent.send("go")
        found = owners_of(recorder, "retransmits", pair.host)
    assert {owner[:3] for owner in found} == {(user, "user", "io")}


@both_versions
def test_a_socket_older_than_the_recorder(lab: Lab, tmp_path: Path, version: int) -> None:
    pair = Pair(lab, version)
    elder = pair.host.spawn_as("elder", owners.send_and_wait, pair.far)
    elder.ready()
    with Recorder(tmp_path / "rec") as recorder, pair.deaf():
        elder.send("go")
        time.sleep(1)
        found = owners_of(recorder, "retransmits", pair.host)
    assert found == {(elder.pid, "elder", "open", False)}


@both_versions
def test_a_process_that_is_gone(lab: Lab, recorder: Recorder, version: int) -> None:
    pair = Pair(lab, version)
    gone = pair.host.spawn_as("gone", owners.send_and_exit, pair.far)
    gone.ready()
    with pair.deaf():
        gone.send("go")
        gone.join()
    found = owners_of(recorder, "retransmits", pair.host, "state = 'FIN_WAIT1'")
    assert found == {(gone.pid, "gone", "close", False)}


def test_handed_on_right_after_the_connect(lab: Lab, recorder: Recorder) -> None:
    pair = Pair(lab)
    with dropping(pair.peer, the_first("tcp flags syn / syn,ack")):
        pair.host.spawn_as("maker", owners.hand_on_once_connected, pair.far).join()
    found = owners_of(recorder, "retransmits", pair.host, "kind = 'SYN'")
    assert {owner[1:3] for owner in found} == {("maker", "connect")}


@both_versions
def test_not_accepted_yet(lab: Lab, recorder: Recorder, version: int) -> None:
    pair = Pair(lab, version)
    address = "::" if version == 6 else "0.0.0.0"
    one = pair.host.spawn_as("one", owners.listen_and_accept_when_told, address)
    port = one.ready()
    two = pair.host.spawn_as("two", owners.listen_and_accept_when_told, address, port)
    two.ready()
    with dropping(pair.host, f"tcp dport {port} meta length > 500"):
        pair.peer.call(owners.send_on_many, Endpoint(pair.address, port), 12)
    rows = ask(
        recorder,
        f"""SELECT DISTINCT saddr, sport, owner_pid, owner_source FROM drops
            WHERE netns = {pair.host.inum} AND length > 500""",
    )
    for task in (one, two):
        task.send("accept")
    accepted = {client: task.pid for task in (one, two) for client in task.join()}
    assert len(set(accepted.values())) == 2
    expected = {(*client, pid, "listener") for client, pid in accepted.items()}
    assert set(rows) == expected


@both_versions
def test_reset_while_open(lab: Lab, recorder: Recorder, version: int) -> None:
    pair = Pair(lab, version)
    parent = pair.host.spawn_as("parent", owners.serve_by_child, pair.address, owners.until_reset)
    acceptor, server = parent.ready()
    pair.peer.call(owners.reset_many, server, 20)
    found = owners_of(recorder, "resets", pair.host)
    assert {owner[:2] for owner in found} == {(acceptor, "acceptor")}
    parent.stop()


@both_versions
def test_late_packets_of_an_ended_connection(lab: Lab, recorder: Recorder, version: int) -> None:
    pair = Pair(lab, version)
    sender = pair.peer.spawn_as(
        "sender", owners.serve_by_child, str(pair.far.address), owners.send_much
    )
    _, server = sender.ready()
    # The sender does not hear that it is over.
    with dropping(pair.peer, "tcp flags & rst == rst"):
        leaver = pair.host.spawn_as("leaver", owners.leave_early, server, 1)
        leaver.join()
        time.sleep(0.5)
    late = f"sport = {server.port} AND state IS NULL"
    found = owners_of(recorder, "drops", pair.host, late)
    assert found == {(leaver.pid, "leaver", "flow", False)}
    sender.stop()


@both_versions
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_dropped_before_a_socket_was_looked_up(
    lab: Lab, recorder: Recorder, version: int, protocol: str
) -> None:
    pair = Pair(lab, version)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    listening = pair.host.spawn_as("listening", _have_port, pair.address, kind)
    port = listening.ready()
    with dropping(pair.host, f"{protocol} dport {port}"):
        pair.peer.call(_knock, Endpoint(pair.address, port), kind)
        found = owners_of(recorder, "drops", pair.host, f"dport = {port}")
        assert found == {(listening.pid, "listening", "port", False)}
        # It was closed: the port is nobody's.
        listening.stop()
        time.sleep(0.1)
        since = f"mono_ns > {time.monotonic_ns()} AND dport = {port}"
        pair.peer.call(_knock, Endpoint(pair.address, port), kind)
        found = owners_of(recorder, "drops", pair.host, since)
    assert {owner[0] for owner in found} == {None}


def _have_port(child: Child, address: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as held:
        held.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            held.listen()
        child.ready(held.getsockname()[1])
        child.stopping(None)


def _knock(target: Endpoint, kind: socket.SocketKind) -> None:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family, kind) as knocking:
        knocking.setblocking(False)
        if kind == socket.SOCK_STREAM:
            knocking.connect_ex(target)
        else:
            knocking.sendto(b"anybody?", target)
        time.sleep(0.1)


@both_versions
def test_udp_sockets_that_live_for_a_moment(lab: Lab, recorder: Recorder, version: int) -> None:
    host = lab.host("host")
    address = "127.0.0.1" if version == 4 else "::1"
    brief = host.spawn_as("brief", owners.overflow_short_lived, address, 20)
    brief.join()
    found = owners_of(recorder, "drops", host, "NOT benign")
    assert {owner[:2] for owner in found} == {(brief.pid, "brief")}
    assert {owner[2] for owner in found} <= {"socket", "open"}
