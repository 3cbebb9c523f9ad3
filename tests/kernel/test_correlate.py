"""Retransmits linked with what the lab dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import Correlation, open_recording
from lab import Host, Lab, Wire, trouble
from lab.recorder import Recorder


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "rec") as recorder:
        yield recorder


def ended(recorder: Recorder) -> Path:
    recorder.stop()
    return recorder.folder


def correlated(folder: Path, netns: int) -> list[tuple[str | None, str | None, int | None, int]]:
    """Return match, function, namespace of the drop, and segments, for one sender."""
    with open_recording(folder) as rec:
        assert isinstance(rec.correlate(), Correlation)
        return rec.sql(
            "SELECT match, function, drop_netns, sum(amount)::BIGINT FROM retransmit_causes "
            "WHERE netns = ? GROUP BY ALL ORDER BY 4 DESC", [netns],
        ).fetchall()  # fmt: skip


@pytest.mark.parametrize("version", [4, 6])
def test_lossy_transfer(lab: Lab, recorded: Recorder, version: int) -> None:
    client, server = lab.host("client"), lab.host("server")
    link = lab.link(client, server, offload=False)
    with server.counting() as moved:
        loss = trouble.lossy_transfer(server, client, link.address(server, version), size=2_000_000)
    needless = sum(moved.get(f"TcpExt.TCPDSACK{kind}Sent", 0) for kind in ("Old", "Ofo"))
    rows = correlated(ended(recorded), client.inum)
    by_bytes = sum(n for match, f, where, n in rows
                   if (match, f, where) == ("segment", "nft_do_chain", server.inum))  # fmt: skip
    # Each dropped packet is sent again, and most of what is sent again had been dropped, but for
    # what came twice: a machine that stands still for a moment sends all again.
    assert by_bytes >= 0.9 * loss.dropped
    assert by_bytes >= 0.8 * (sum(n for *_, n in rows) - needless)


def test_through_a_router(lab: Lab, recorded: Recorder) -> None:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    left = lab.link(client, router, v4="10.77.1.0/30", v6=None, offload=False)
    right = lab.link(router, server, v4="10.77.2.0/30", v6=None, offload=False)
    router.forward()
    client.route("default", via=left.address(router))
    server.route("default", via=right.address(router))
    loss = trouble.lossy_transfer(
        server, client, right.address(server), size=500_000, firewall=router
    )
    first = correlated(ended(recorded), client.inum)[0]
    assert first[:3] == ("segment", "nft_do_chain", router.inum)
    assert first[3] >= 0.9 * loss.dropped


def test_each_of_two_losses_is_found(lab: Lab, recorded: Recorder) -> None:
    client, server = lab.host("client"), lab.host("server")
    link = lab.link(client, server, offload=False)
    trouble.tail_loss(server, client, link.address(server), lost=2)
    assert correlated(ended(recorded), client.inum) == [("segment", "nft_do_chain", server.inum, 2)]


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("server")


def test_lost_on_the_wire_has_no_drop(server: Host, recorded: Recorder) -> None:
    with Wire(server) as wire:
        hole = trouble.syn_blackhole(server, wire)
    folder = ended(recorded)
    assert correlated(folder, server.inum) == [(None, None, None, hole.retransmits)]


def test_behind_a_published_port(lab: Lab, recorded: Recorder) -> None:
    """The client's connection and the packets that are dropped have different addresses."""
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    left = lab.link(client, router, v4="10.77.1.0/30", v6=None, offload=False)
    right = lab.link(router, server, v4="10.77.2.0/30", v6=None, offload=False)
    router.forward()
    public, inside = left.address(router), right.address(server)
    client.route("default", via=left.address(router))
    server.route("default", via=right.address(router))
    router.nft(
        f"table ip published {{ chain to {{ type nat hook prerouting priority -100;"
        f" ip daddr {public} meta l4proto tcp dnat to {inside}; }}; }}"
    )
    loss = trouble.lossy_transfer(
        server, client, inside, size=500_000, firewall=router, public=public
    )
    rows = correlated(ended(recorded), client.inum)
    found = sum(n for match, f, where, n in rows
                if (match, f, where) == ("segment", "nft_do_chain", router.inum))  # fmt: skip
    assert loss.dropped
    assert found >= 0.9 * loss.dropped
