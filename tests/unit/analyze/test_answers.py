from __future__ import annotations

from pathlib import Path

import pytest

from droptape.analyze import QueryError, Recording, open_recording
from unit.analyze.make import NEW_BASE, OLD_BASE, SECOND, START, SYMBOLS, Maker


def test_info(rec: Recording, incident: Path) -> None:
    info = rec.info()
    (one,) = info.recordings
    assert info.span_ns == (START, START + 60 * SECOND)
    assert (one.name, one.path, one.state, one.seconds) == (
        "web-1",
        str(incident),
        "complete",
        60.0,
    )
    assert one.host is not None
    assert one.host.kernel == "6.18.1"
    drops = next(t for t in one.tables if t.name == "drops")
    assert (drops.rows, drops.journal_rows, drops.files) == (5, 0, 2)
    assert (drops.first_ns, drops.last_ns) == (START + 5_500_000_000, START + 40 * SECOND)


def test_summary_counts_are_exact_and_benign_ones_apart(rec: Recording) -> None:
    summary = rec.summary()
    kinds = {kind["kind"]: kind for kind in summary.kinds}
    assert {k: v["events"] for k, v in kinds.items()} == {
        "drops": 13, "listen": 10, "retransmits": 5, "resets": 0,
    }  # fmt: skip
    assert kinds["drops"]["benign"] == 5000
    assert (kinds["drops"]["recorded"], kinds["drops"]["lost"], kinds["drops"]["unaccounted"]) == (
        7,
        6,
        0,
    )
    assert kinds["drops"]["per_second"] == pytest.approx(13 / 60)
    assert kinds["drops"]["since_ns"] == START + 5_500_000_000
    assert sum(kinds["drops"]["buckets"]) == 7
    assert len(kinds["drops"]["buckets"]) == 60 * SECOND // summary.bucket_ns
    assert summary.losses == [{"kind": "drops", "cause": "ring_full", "events": 6}]


def test_summary_causes_and_owners(rec: Recording) -> None:
    summary = rec.summary()
    first = summary.causes[0]
    assert (first["kind"], first["cause"], first["function"], first["events"], first["share"]) == (
        "listen", "accept_queue_full", None, 10, 100.0,
    )  # fmt: skip
    no_socket = next(c for c in summary.causes if c["cause"] == "NO_SOCKET")
    assert (no_socket["events"], no_socket["function"]) == (7, "tcp_v4_rcv")
    owner = summary.owners[0]
    assert (owner["owner"], owner["pid"], owner["port"], owner["container"], owner["events"]) == (
        "auction-server", 1234, 8080, "auction", 19,
    )  # fmt: skip
    assert owner["kinds"] == "drops, listen, retransmits"
    assert owner["cause"] == "accept_queue_full"
    assert owner["since_ns"] == START + 5 * SECOND
    assert summary.cause_count == len(summary.causes) == 7
    assert summary.owner_count == len(summary.owners) == 4


def test_summary_reports_what_is_unaccounted(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal(
        "totals", [{"at": 1, "kind": "drops", "cause": "NO_SOCKET", "events": 9, "recorded": 4}]
    )
    with open_recording(maker.finish()) as rec:
        drops = next(k for k in rec.summary().kinds if k["kind"] == "drops")
    assert (drops["events"], drops["unaccounted"]) == (9, 5)


def test_summary_without_totals_counts_rows(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.journal("drops", [{"at": 1, "reason": "NO_SOCKET", "weight": 5}])
    with open_recording(maker.path) as rec:
        (kind,) = rec.summary().kinds
    assert (kind["kind"], kind["events"], kind["unaccounted"]) == ("drops", 5, 0)


def test_top(rec: Recording) -> None:
    rows = rec.top("owner,port", limit=2).fetchall()
    assert [row[:4] for row in rows] == [("auction-server", 8080, 19, 86.36), (None, 9, 1, 4.55)]
    assert rec.top("reason").fetchall()[0][:3] == ("listen", "accept_queue_full", 10)
    assert rec.top("reason").columns == [
        "kind",
        "reason",
        "events",
        "share",
        "rows",
        "since",
        "until",
    ]
    assert [r[:2] for r in rec.top("saddr", table="drops").fetchall()] == [
        ("10.0.0.7", 5), ("2001:db8::7", 1), (None, 1),
    ]  # fmt: skip
    assert rec.top("kind", table="retransmits").fetchall()[0][:2] == ("FAST", 4)
    assert rec.top("event,mechanism").fetchall()[0][:3] == ("accept_queue_full", "consume_skb", 10)
    assert rec.top("function,container", table="drops").fetchall()[0][:3] == (
        "tcp_v4_rcv",
        "auction",
        4,
    )


def test_top_of_a_table_counts_its_causes(rec: Recording) -> None:
    usual = {
        table: rec.top(table=table).columns[: -len(["events", "share", "rows", "since", "until"])]
        for table in (*rec.event_tables, "events", "totals", "losses")
    }
    assert usual == {
        "drops": ["reason", "function"], "retransmits": ["kind"], "listen": ["event"],
        "resets": ["direction"], "events": ["kind", "reason", "function"],
        "totals": ["reason", "function"], "losses": ["reason"],
    }  # fmt: skip
    for table, columns in usual.items():
        if table in rec.event_tables:
            by_cause = rec.top(columns[0], table=table, include_benign=True).fetchall()
            assert by_cause or table == "resets"  # of which there are none here
            assert rec.top("reason", table=table, include_benign=True).fetchall() == by_cause
    assert rec.top("reason,lport").fetchall()[0][:2] == ("accept_queue_full", 8080)


@pytest.mark.parametrize(
    ("by", "table", "message"),
    [
        ("nonsense", None, "there is no column nonsense; events have: amount"),
        ("reason,lport,kind", "listen", "listen has no column kind; it has: ts"),
        ("reason", "marks", "marks has no column reason; it has: ts"),
        (None, "marks", "marks has no causes: name what to count by, of ts"),
        (None, "nonsense", "there is no table nonsense"),
        ("reason", "nonsense", "there is no table nonsense"),
        ("", None, "name at least one column"),
        ('reason"; DROP TABLE x', None, "there is no column"),
        ("srtt_us,lport", None, "no table has all of srtt_us, lport"),
    ],
)
def test_top_says_what_is_wrong(
    rec: Recording, by: str | None, table: str | None, message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        rec.top(by, table=table)


def test_benign_drops_are_left_out_unless_wanted(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal(
        "drops",
        [{"at": 1, "reason": "NO_SOCKET"}, {"at": 2, "reason": "NOT_SPECIFIED", "benign": 1}],
    )
    with open_recording(maker.finish()) as rec:
        assert len(rec.top("reason").fetchall()) == 1
        assert len(rec.top("reason", include_benign=True).fetchall()) == 2
        assert len(rec.top("benign", table="drops").fetchall()) == 2
        assert len(rec.timeline().fetchall()) == 1
        assert len(rec.timeline(include_benign=True).fetchall()) == 2


def test_timeline(rec: Recording) -> None:
    rows = rec.timeline(bucket="5s", table="drops", by="reason").fetchall()
    assert [row[1:] for row in rows] == [
        (5.0, "TCP_LISTEN_OVERFLOW", 4),
        (20.0, "NO_SOCKET", 1),
        (30.0, "NETFILTER_DROP", 1),
        (40.0, "NOT_SPECIFIED", 1),
    ]
    assert rec.timeline(bucket="5s", table="drops").fetchall() == rows
    everything = rec.timeline(bucket="1h").fetchall()
    assert [row[2:] for row in everything] == [("listen", 10), ("drops", 7), ("retransmits", 5)]
    assert {row[2] for row in rec.timeline(by="saddr", table="drops").fetchall()} == {
        "10.0.0.7", "2001:db8::7", None,
    }  # fmt: skip


@pytest.mark.parametrize("bucket", ["", "x", "0s", "-1s", "5 parsecs", "1"])
def test_timeline_says_what_is_no_duration(rec: Recording, bucket: str) -> None:
    with pytest.raises(QueryError, match=r"duration|longer"):
        rec.timeline(bucket=bucket)


def test_symbolize(rec: Recording) -> None:
    rows = rec.symbolize().fetchall()
    assert rows == [
        ("web-1", f"{OLD_BASE + 0x10:#x}", "_stext", 16, None, 5001),
        ("web-1", f"{OLD_BASE + 0x1200:#x}", "tcp_v4_rcv", 512, None, 7),
        ("web-1", f"{OLD_BASE + 0x108C:#x}", "tcp_v4_rcv", 0x8C, None, 4),
        ("web-1", f"{OLD_BASE + 0x3010:#x}", "nft_do_chain", 16, "nf_tables", 1),
    ]
    too_far = OLD_BASE + SYMBOLS[-1][0] + (1 << 20)
    given = rec.symbolize([OLD_BASE + 0x1001, 5, too_far]).fetchall()
    assert {row[1]: row[2:4] for row in given} == {
        f"{OLD_BASE + 0x1001:#x}": ("tcp_v4_rcv", 1),
        "0x5": (None, None),
        f"{too_far:#x}": (None, None),
    }
    assert rec.symbolize([NEW_BASE + 0x1001]).fetchall()[0][2] is None


def test_of_names_for_one_address_the_plainest_is_taken(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    rows = [
        {"address": OLD_BASE - (1 << 64), "name": n, "module": None}
        for n in ("__do_it", "do_it_again", "do_it")
    ]
    maker.dictionary("symbols", [{"address": 0, "name": "hidden", "module": None}, *rows])
    with open_recording(maker.finish()) as rec:
        assert rec.symbolize([OLD_BASE]).fetchall()[0][2] == "do_it"
        assert rec.symbolize([3]).fetchall()[0][2] is None
