"""Before and after a change, recorded on real traffic."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from droptape.analyze import Diff, diff, open_recording
from droptape.analyze.comparison import Verdict
from lab import Child, Host, Lab, trouble
from lab.recorder import Recorder

SECONDS = 5


def _serve(child: Child, address: str) -> None:
    with socket.create_server((address, 7000)) as listener:
        child.ready()
        listener.settimeout(0.1)
        while not child.stopping(0):
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(10)
                while data := connection.recv(4096):
                    connection.sendall(data)


def _load(_child: Child, address: str, seconds: float) -> int:
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection((address, 7000), timeout=10) as connection:
            for _ in range(40):
                connection.sendall(bytes(1000))
                left = 1000
                while left:
                    left -= len(connection.recv(left))
                done += 1
                time.sleep(0.002)
    return done


def load(server: Host, client: Host, address: str, folder: Path) -> Path:
    serving = server.spawn_as("echo", _serve, address)
    serving.ready()
    with Recorder(folder):
        client.spawn_as("load", _load, address, SECONDS).join(SECONDS + 30)
    serving.stop()
    return folder


def compare(before: Path, after: Path, *hosts: Host) -> Diff:
    """Compare what happened in the hosts' namespaces: others may run on this machine too."""
    with open_recording(before) as one, open_recording(after) as other:
        found = diff(one, other, by="reason,function,netns")
    mine = {str(host.inum) for host in hosts}
    return replace(found, changes=[c for c in found.changes if c.values["netns"] in mine])


def verdicts(found: Diff) -> dict[tuple[str, str | None], Verdict]:
    return {(c.kind, c.values["reason"]): c.verdict for c in found.changes}


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, str]:
    client, server = lab.host("client"), lab.host("server")
    return client, server, lab.link(client, server, offload=False).address(server)


def test_a_firewall_rule(pair: tuple[Host, Host, str], tmp_path: Path) -> None:
    client, server, address = pair
    before = load(server, client, address, tmp_path / "before")
    again = load(server, client, address, tmp_path / "again")
    rule = trouble.percent("tcp dport 7000 meta length > 500", 3)
    with trouble.dropping(server, rule):
        after = load(server, client, address, tmp_path / "after")
    healthy = compare(before, again, client, server)
    assert not healthy.fails("any"), healthy.verdict
    found = compare(before, after, client, server)
    assert verdicts(found)["drops", "NETFILTER_DROP"] is Verdict.NEW
    assert found.verdict.startswith("Worse")
    (change,) = [c for c in found.changes if c.values["reason"] == "NETFILTER_DROP"]
    assert change.per == "segment"  # the counters give the traffic
    assert (change.sure, change.values["function"]) == (True, "nft_do_chain")
    assert (
        verdicts(compare(after, before, client, server))["drops", "NETFILTER_DROP"] is Verdict.GONE
    )


def test_a_bigger_backlog(pair: tuple[Host, Host, str], tmp_path: Path) -> None:
    client, server, address = pair

    def crowd(backlog: int, folder: Path) -> Path:
        with Recorder(folder):
            trouble.slow_server(server, client, address, backlog=backlog, clients=60)
        return folder

    small, large = crowd(4, tmp_path / "small"), crowd(200, tmp_path / "large")
    found = compare(small, large, client, server)
    assert verdicts(found)["listen", "accept_queue_full"] is Verdict.GONE
    assert compare(large, small, client, server).fails("worse")
    # The port is another one each time, the server has the same name.
    limits = [s for s in found.settings if s.what == "limit" and "slow-server" in s.name]
    assert not limits or {(s.before, s.after) for s in limits} <= {("4", "200")}
