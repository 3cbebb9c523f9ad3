from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from droptape.analyze import QueryError, open_recording
from unit.analyze.make import Maker
from unit.analyze.test_cli import run

Row = dict[str, Any]
FORWARD: Mapping[str, Any] = {
    "saddr": "10.0.0.2", "sport": 8080, "daddr": "10.0.0.7", "dport": 51034,
}  # fmt: skip
BACK: Mapping[str, Any] = {
    "saddr": "10.0.0.7", "sport": 51034, "daddr": "10.0.0.2", "dport": 8080,
}  # fmt: skip
DROP: Mapping[str, Any] = {
    "reason": "NETFILTER_DROP", "location": 0x3010, "length": 1500, "tcp_flags": 0x10, "netns": 9,
}  # fmt: skip
SENT: Mapping[str, Any] = {
    **FORWARD, "kind": "RTO", "segments": 1, "length": 1448, "rto_us": 200_000,
}  # fmt: skip


def link(path: Path, drops: Sequence[Row], retransmits: Sequence[Row]) -> list[Row]:
    made = Maker(path)
    made.symbols()
    made.seal("drops", drops)
    made.seal("retransmits", retransmits)
    with open_recording(made.finish()) as rec:
        found = rec.sql("FROM retransmit_causes ORDER BY ts").to_arrow_table().to_pylist()
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("drop", "match"),
    [
        ({**FORWARD, "seq": 5000}, "segment"),
        ({**FORWARD, "seq": 5000 - 1000}, "segment"),  # ends in it
        ({**FORWARD, "seq": 5000 + 1000}, "segment"),  # begins in it
        ({**FORWARD, "seq": 5000 - 1448}, "flow"),  # the segment before
        ({**FORWARD, "seq": 5000 + 1448}, "flow"),  # the segment after
        ({**FORWARD, "seq": 5000, "sport": 8081, "dport": 51035}, None),
        ({**FORWARD, "seq": 5001, "sport": 8081}, None),
        ({**FORWARD, "seq": 5000, "at": 8.9}, None),  # more than a second before
        ({**FORWARD, "seq": 5000, "at": 10.1}, None),  # after it
        ({**BACK, "ack": 6448, "length": 52}, "reply"),
        ({**BACK, "ack": 5000, "length": 52}, "flow"),  # acknowledges only what was before
        ({**BACK, "tcp_flags": 0x04, "ack": 6448}, "flow"),  # a reset acknowledges nothing
    ],
)
def test_which_drop_explains(tmp_path: Path, drop: Row, match: str | None) -> None:
    (row,) = link(tmp_path / "r", [{**DROP, "at": 9.8, **drop}], [{**SENT, "at": 10, "seq": 5000}])
    assert row["match"] == match
    if match is None:
        assert (row["reason"], row["delay_ms"]) == (None, None)
    else:
        assert (row["reason"], row["function"]) == ("NETFILTER_DROP", "nft_do_chain")
        assert (row["drop_netns"], row["delay_ms"]) == (9, 200)
    assert (row["saddr"], row["daddr"]) == ("10.0.0.2", "10.0.0.7")


@pytest.mark.parametrize(
    ("drop", "match"),
    [
        ({**FORWARD, "sport": 80, "seq": 5000}, "segment"),  # redirected to 8080
        ({**FORWARD, "saddr": "192.0.2.1", "seq": 5000}, "segment"),  # behind a published port
        ({**FORWARD, "saddr": "192.0.2.1", "sport": 80, "seq": 5000}, "segment"),
        ({**FORWARD, "daddr": "192.0.2.1", "seq": 5000}, "segment"),  # the other end
        ({**BACK, "daddr": "192.0.2.1", "ack": 6448, "length": 52}, "reply"),
        ({**BACK, "saddr": "192.0.2.1", "sport": 9, "ack": 6448, "length": 52}, "reply"),
        ({**FORWARD, "saddr": "192.0.2.1", "seq": 5001}, None),  # another connection
        ({**BACK, "daddr": "192.0.2.1", "ack": 6449, "length": 52}, None),
        ({**BACK, "daddr": "192.0.2.1", "ack": 6448, "tcp_flags": 0x04}, None),
        ({**FORWARD, "saddr": "192.0.2.1", "daddr": "192.0.2.2", "seq": 5000}, None),
        ({**FORWARD, "saddr": "192.0.2.1", "seq": 5000, "protocol": "UDP"}, None),
    ],
)
def test_a_drop_under_translated_addresses(tmp_path: Path, drop: Row, match: str | None) -> None:
    """NAT changes one end and leaves sequence numbers: what a container sent, a host drops."""
    drops = [{**DROP, "at": 9.8, **drop}]
    (row,) = link(tmp_path / "r", drops, [{**SENT, "at": 10, "seq": 5000}])
    assert row["match"] == match
    assert (row["saddr"], row["sport"]) == ("10.0.0.2", 8080)


def test_one_translated_segment_tells_of_all_others(tmp_path: Path) -> None:
    drops = [
        {**DROP, **FORWARD, "saddr": "192.0.2.1", "at": 9.8 + n / 100, "seq": 5000 + n * 1448}
        for n in range(3)
    ]
    # Sent again in other pieces: only the first begins where a packet began.
    again = [{**SENT, "at": 10, "seq": 5000}, {**SENT, "at": 10.1, "seq": 7000, "length": 2000}]
    assert [row["match"] for row in link(tmp_path / "r", drops, again)] == ["segment", "segment"]


def test_the_latest_drop_of_the_same_bytes_wins(tmp_path: Path) -> None:
    drops = [
        {**DROP, **FORWARD, "at": 9.5, "seq": 5000, "netns": 1},
        {**DROP, **FORWARD, "at": 9.7, "seq": 5000, "netns": 2},
        {**DROP, **FORWARD, "at": 9.9, "seq": 90_000, "netns": 3},
    ]
    (row,) = link(tmp_path / "r", drops, [{**SENT, "at": 10, "seq": 5000}])
    assert (row["match"], row["drop_netns"]) == ("segment", 2)


def test_sequence_numbers_wrap(tmp_path: Path) -> None:
    top = (1 << 32) - 100
    drops = [{**DROP, **FORWARD, "at": 9.9, "seq": top}]
    rows = link(tmp_path / "r", drops, [{**SENT, "at": 10, "seq": 200}])
    assert rows[0]["match"] == "segment"
    assert link(tmp_path / "s", drops, [{**SENT, "at": 10, "seq": 2000}])[0]["match"] == "flow"


def test_a_long_timeout_reaches_farther_back(tmp_path: Path) -> None:
    drops = [{**DROP, **FORWARD, "at": 5, "seq": 5000}]
    late = {**SENT, "at": 12, "seq": 5000, "rto_us": 4_000_000}
    assert link(tmp_path / "r", drops, [late])[0]["match"] == "segment"
    synack = {**late, "rto_us": 0, "kind": "SYNACK", "attempt": 2, "length": 0}
    assert link(tmp_path / "s", drops, [synack])[0]["match"] == "segment"
    assert link(tmp_path / "t", drops, [{**synack, "attempt": 1}])[0]["match"] is None


def test_summary_counts_segments(tmp_path: Path) -> None:
    made = Maker(tmp_path / "r")
    made.symbols()
    made.seal("drops", [{**DROP, **FORWARD, "at": 9.9, "seq": 5000}])
    made.seal("retransmits", [
        {**SENT, "at": 10, "seq": 5000, "kind": "FAST", "segments": 8},
        {**SENT, "at": 50, "seq": 9000, "segments": 2},
        {**SENT, "at": 51, "seq": 9000, "segments": 1, "kind": "DEFERRED"},
    ])  # fmt: skip
    made.seal("losses", [{"at": 3, "kind": "drops", "cause": "ring_full", "events": 5}])
    with open_recording(made.finish()) as rec:
        found = rec.correlate()
        assert rec.correlate(start="+20s").segments == 2
        assert rec.top("saddr", table="retransmit_causes").fetchall()[0][0] == "10.0.0.2"
    assert found.segments == 10
    assert found.verdict == (
        "Of 10 segments sent again: 80 % explained by NETFILTER_DROP in nft_do_chain here; "
        "20 % with no drop seen: lost elsewhere, or not at all."
    )
    assert "5 drops have no row" in found.notes[0]
    done = run("correlate", tmp_path / "r", "-f", "json")
    assert json.loads(done.stdout)["rows"][0]["share"] == 80.0
    assert found.verdict in run("correlate", tmp_path / "r").stdout


def test_without_drops_or_retransmits(tmp_path: Path) -> None:
    for missing, rows in (("drops", [{**SENT, "at": 1}]), ("retransmits", [{**DROP, "at": 1}])):
        made = Maker(tmp_path / missing)
        made.tables.pop(missing)
        made.seal("retransmits" if missing == "drops" else "drops", rows)
        made.finish()
    with open_recording(tmp_path / "drops") as rec:
        assert rec.correlate().notes == ["Drops were not recorded, so none could be found."]
    with (
        open_recording(tmp_path / "retransmits") as rec,
        pytest.raises(QueryError, match="no retransmits"),
    ):
        rec.correlate()


def test_flows_never_join_across_recordings(tmp_path: Path) -> None:
    for name, table, row in (
        ("a", "drops", {**DROP, **FORWARD, "at": 9.9, "seq": 5000}),
        ("b", "retransmits", {**SENT, "at": 10, "seq": 5000}),
    ):
        made = Maker(tmp_path / name)
        made.seal(table, [row])
        made.finish()
    with open_recording(tmp_path / "a", tmp_path / "b") as rec:
        assert rec.correlate().rows[0]["match"] is None


@pytest.mark.parametrize(
    ("event", "more", "match"),
    [
        ("accept_queue_full", {}, "segment"),
        ("syn_queue_full", {}, "segment"),
        ("syn_dropped", {}, "segment"),
        ("ack_dropped", {}, None),  # not the opening; that it was dropped is a row of drops
        ("accept_queue_full", {"at": 10.5}, None),
        ("accept_queue_full", {"sport": 8081}, None),
    ],
)
def test_a_refused_opening_was_lost_here(
    tmp_path: Path, event: str, more: Row, match: str | None
) -> None:
    """The kernel frees it as consumed: there is a row of listen and none of drops."""
    made = Maker(tmp_path / "r")
    made.symbols()
    made.seal("drops", [])
    made.seal("listen", [{**FORWARD, "at": 9.1, "event": event, "netns": 9, **more}])
    made.seal("retransmits", [{**SENT, "at": 10, "seq": 5000, "kind": "SYN", "length": 1}])
    with open_recording(made.finish()) as rec:
        rows = rec.sql("SELECT match, reason, drop_netns FROM retransmit_causes").fetchall()
    assert rows == [(match, event, 9) if match else (None, None, None)]
