from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from droptape.analyze import QueryError, Recording, dictionary, open_recording
from droptape.format.schema import Column, Table
from droptape.format.types import KSYM, MONO, STRING, U32
from unit.analyze.incident import DROPS, LISTEN, make_incident
from unit.analyze.make import MONO as MONO_START
from unit.analyze.make import NEW_BASE, NEW_REASONS, OLD_BASE, SECOND, START, Maker


def test_addresses_times_and_names_are_readable(rec: Recording) -> None:
    rows = rec.sql(
        'SELECT ts, mono_ns, saddr, daddr, reason, location, function, "offset", module, '
        "container, cgroup, netns_name, tcp_flags, owner_comm, recording FROM drops ORDER BY ts"
    ).fetchall()
    assert rows[0] == (
        datetime.datetime(2023, 11, 14, 22, 13, 25, 500000),  # noqa: DTZ001 (UTC, as DuckDB gives it)
        MONO_START + 5_500_000_000,
        "10.0.0.7",
        "10.0.0.2",
        "TCP_LISTEN_OVERFLOW",
        f"{OLD_BASE + 0x108C:#x}",
        "tcp_v4_rcv",
        0x8C,
        None,
        "auction",
        "/system.slice/auction.service",
        "host",
        "ACK",
        "auction-server",
        "web-1",
    )
    assert rows[3][2:5] == ("2001:db8::7", "2001:db8::2", "NETFILTER_DROP")
    assert rows[3][6:9] == ("nft_do_chain", 0x10, "nf_tables")


def test_an_unknown_address_is_null_and_any_is_colons(rec: Recording) -> None:
    assert rec.sql("SELECT saddr FROM drops WHERE ip_version IS NULL").fetchall() == [(None,)]
    assert rec.sql("SELECT DISTINCT laddr FROM listen").fetchall() == [("::",)]


def test_only_where_all_packets_are_ip_the_version_is_not_asked_for(rec: Recording) -> None:
    stored = rec.sources[0].tables
    assert (stored["drops"].only_ip, stored["listen"].only_ip) == (False, True)
    for table in ("drops", "listen"):
        sql = "SELECT sql FROM duckdb_views() WHERE schema_name = 'raw' AND view_name = ?"
        ((text,),) = rec.connection.sql(sql, params=[table]).fetchall()
        assert ("ip_version IS NOT NULL" in text) is not stored[table].only_ip


def test_large_and_small_dictionaries_say_the_same(
    rec: Recording, incident: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionary, "_SMALL", 0)
    with open_recording(incident) as joined:
        assert "Join" in plan(joined, "SELECT function FROM drops")
        for table in rec.event_tables:
            query = f"SELECT * FROM {table} ORDER BY ALL"
            assert joined.sql(query).fetchall() == rec.sql(query).fetchall()


def test_a_netns_without_a_name_stays(rec: Recording) -> None:
    assert rec.sql("SELECT netns, netns_name FROM drops WHERE netns = 7").fetchall() == [(7, None)]


def test_columns_are_those_declared(rec: Recording) -> None:
    for name, view in rec.views.items():
        described = rec.sql(f'DESCRIBE "{name}"').fetchall()
        assert [(row[0], row[1]) for row in described] == [
            (c.name, c.type) for c in view.columns
        ], name
        assert all(c.doc for c in view.columns), name


def test_a_table_without_rows_has_its_view(rec: Recording) -> None:
    assert rec.resets.fetchall() == []
    assert "direction" in rec.resets.columns


def test_tables_are_attributes(rec: Recording) -> None:
    assert len(rec.drops.fetchall()) == len(DROPS)
    assert rec.listen.to_arrow_table().num_rows == len(LISTEN)
    assert "drops" in dir(rec)
    with pytest.raises(AttributeError):
        _ = rec.no_such_table
    with pytest.raises(QueryError, match="there is no table no_such_table; tables: drops"):
        rec.table("no_such_table")


def test_events_of_all_kinds_are_one_view(rec: Recording) -> None:
    rows = rec.sql("SELECT kind, sum(amount) FROM events GROUP BY kind ORDER BY kind").fetchall()
    assert rows == [("drops", 7), ("listen", 10), ("retransmits", 5)]
    ports = rec.sql("SELECT DISTINCT port FROM events WHERE kind <> 'drops'").fetchall()
    assert ports == [(8080,)]


def test_the_port_of_an_event_is_the_service(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    syn, synack, ack = 2, 18, 16
    flows = [(40000, 50000, syn), (60000, 50000, syn), (50000, 40000, synack), (80, 40000, ack)]
    rows = [
        {"at": i, "reason": "NO_SOCKET", "sport": s, "dport": d, "tcp_flags": f}
        for i, (s, d, f) in enumerate(flows)
    ]
    maker.seal("drops", rows)
    with open_recording(maker.finish()) as rec:
        ports = rec.sql("SELECT port FROM events ORDER BY ts").fetchall()
    assert ports == [(50000,), (50000,), (50000,), (80,)]


@pytest.mark.parametrize(
    "condition",
    [
        "ts >= TIMESTAMP '2023-11-14 22:13:40'",
        "ts >= '2023-11-14 22:13:40'",
        "ts BETWEEN '2023-11-14 22:13:40' AND '2023-11-14 22:14:20'",
        "ts - INTERVAL 20 SECOND >= '2023-11-14 22:13:20'",
        "date_trunc('second', ts) >= '2023-11-14 22:13:40'",
        "epoch_ns(ts) >= 1700000020000000000",
        "time_bucket(INTERVAL '1 second', ts) >= '2023-11-14 22:13:40'",
    ],
)
def test_time_conditions(rec: Recording, condition: str) -> None:
    assert rec.sql(f"SELECT count(*) FROM drops WHERE {condition}").fetchall() == [(3,)]


def plan(rec: Recording, sql: str) -> str:
    return str(rec.sql(f"EXPLAIN {sql}").fetchall()[0][1])


def test_a_time_condition_reaches_the_file(rec: Recording) -> None:
    text = plan(rec, "SELECT count(*) FROM listen WHERE ts >= TIMESTAMP '2023-11-14 22:13:25.5'")
    assert text.index("READ_PARQUET") < text.index("Filters:") < text.index("make_timestamp_ns")


def test_only_the_columns_asked_for_are_read_and_no_dictionary_is_joined(rec: Recording) -> None:
    text = plan(rec, "SELECT sum(backlog) FROM listen")
    assert "Join" not in text
    assert "backlog" in text
    assert "saddr" not in text
    assert "Join" not in plan(rec, "SELECT function FROM drops")


def test_two_kernels_are_asked_together(tmp_path: Path) -> None:
    old = make_incident(tmp_path / "old")
    new = make_incident(
        tmp_path / "new", base=NEW_BASE, reasons=NEW_REASONS, kernel="7.0", host="web-2"
    )
    with open_recording(old, new) as rec:
        by_function = rec.sql(
            'SELECT recording, reason, function, "offset", count(*) FROM drops '
            "WHERE reason = 'NETFILTER_DROP' GROUP BY ALL ORDER BY 1"
        ).fetchall()
        locations = rec.sql(
            "SELECT DISTINCT location FROM drops WHERE reason = 'NO_SOCKET'"
        ).fetchall()
    assert by_function == [
        ("new", "NETFILTER_DROP", "nft_do_chain", 16, 1),
        ("old", "NETFILTER_DROP", "nft_do_chain", 16, 1),
    ]
    assert {row[0] for row in locations} == {f"{OLD_BASE + 0x1200:#x}", f"{NEW_BASE + 0x1200:#x}"}


def test_symbols_of_one_recording_do_not_name_the_code_of_another(tmp_path: Path) -> None:
    named = Maker(tmp_path / "named")
    named.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "location": 0x1000}])
    named.symbols()
    bare = Maker(tmp_path / "bare", base=OLD_BASE)
    bare.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "location": 0x1000}])
    with open_recording(named.finish(), bare.finish()) as rec:
        found = rec.sql("SELECT recording, function FROM drops ORDER BY 1").fetchall()
    assert found == [("bare", None), ("named", "tcp_v4_rcv")]


def test_a_kind_that_is_not_ours_works(tmp_path: Path) -> None:
    theirs = Table(
        "page_faults",
        "Faults of a plug-in.",
        (
            Column("mono_ns", MONO, "when"),
            Column("caller", KSYM, "who"),
            Column("callee", KSYM, "whom"),
            Column("bytes", U32, "how much"),
            Column("note", STRING, "text"),
        ),
        cause="note",
        noun="fault",
    )
    maker = Maker(tmp_path / "r")
    maker.tables["page_faults"] = theirs
    maker.symbols()
    row = {
        "ts_ns": [START], "mono_ns": [MONO_START], "clock_ns": [START - MONO_START],
        "caller": [OLD_BASE + 0x1001 - (1 << 64)], "callee": [OLD_BASE + 0x3002 - (1 << 64)],
        "bytes": [7], "note": ["x"],
    }  # fmt: skip
    names = theirs.arrow_schema.names
    maker.write("page_faults", pa.table([row[n] for n in names], schema=theirs.arrow_schema))
    with open_recording(maker.finish()) as rec:
        assert rec.sql(
            "SELECT function, callee_function, bytes, note FROM page_faults"
        ).fetchall() == [("tcp_v4_rcv", "nft_do_chain", 7, "x")]
        assert rec.sql(
            "SELECT kind, cause, amount, saddr FROM events WHERE kind = 'page_faults'"
        ).fetchall() == [("page_faults", "x", 1, None)]
        assert rec.summary().kinds[0]["kind"] == "page_faults"


def test_recordings_with_other_columns_are_joined_by_name(tmp_path: Path) -> None:
    old = Maker(tmp_path / "old")
    drops = old.tables["drops"]
    less = Table(
        drops.name, drops.doc, tuple(c for c in drops if c.name != "length"), cause="reason"
    )
    full = old.records("drops", [{"at": 1, "reason": "NO_SOCKET", "length": 60}])
    old.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "length": 60}])
    path = next((old.path / "drops").iterdir())
    table = pa.parquet.read_table(path)
    path.unlink()
    old.segments.clear()
    old.tables["drops"] = less
    old.write("drops", table.drop_columns(["length"]), less)
    del full
    new = make_incident(tmp_path / "new")
    with open_recording(old.finish(), new) as rec:
        lengths = rec.sql(
            "SELECT recording, max(length) FROM drops GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert lengths == [("new", 0), ("old", None)]


def test_a_declared_column_that_no_file_has_is_null(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    path = maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "length": 60}])
    table = pa.parquet.read_table(path).drop_columns(["length", "seq"])
    path.unlink()
    maker.write("drops", table)
    with open_recording(maker.finish()) as rec:
        assert rec.sql("SELECT length, seq, reason FROM drops").fetchall() == [
            (None, None, "NO_SOCKET")
        ]


def test_segments_with_different_columns_are_one_table(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    path = maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET", "length": 60}])
    table = pa.parquet.read_table(path).drop_columns(["length"])
    path.unlink()
    maker.write("drops", table)
    maker.seal("drops", [{"at": 2, "reason": "NO_SOCKET", "length": 61}])
    maker.journal("drops", [{"at": 3, "reason": "NO_SOCKET", "length": 62}])
    with open_recording(maker.finish()) as rec:
        assert rec.sql("SELECT length FROM drops ORDER BY ts").fetchall() == [(None,), (61,), (62,)]


def test_recordings_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    first = make_incident(tmp_path / "a" / "rec")
    second = make_incident(tmp_path / "b" / "rec")
    with open_recording(first, second) as rec:
        names = rec.sql("SELECT DISTINCT recording FROM drops ORDER BY 1").fetchall()
    assert names == [("a/rec",), ("b/rec",)]


def test_spilling_stays_in_a_private_folder_that_is_removed(incident: Path, tmp_path: Path) -> None:
    rec = open_recording(incident, temp_folder=tmp_path, memory_limit="100MB", threads=1)
    (private,) = tmp_path.iterdir()
    assert private.stat().st_mode & 0o077 == 0
    setting = rec.connection.sql("SELECT current_setting('temp_directory')").fetchall()
    assert setting == [(str(private),)]
    limit = rec.connection.sql("SELECT current_setting('memory_limit')").fetchall()
    assert limit == [("95.3 MiB",)]
    rec.close()
    assert not list(tmp_path.iterdir())


def test_rows_with_values_at_the_limits(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal(
        "drops", [{"at": 0, "reason": "NO_SOCKET", "seq": 2**32 - 1, "sport": 65535, "uid": 0}]
    )
    with open_recording(maker.finish()) as rec:
        assert rec.sql("SELECT seq, sport, uid, epoch_ns(ts) FROM drops").fetchall() == [
            (2**32 - 1, 65535, 0, START)
        ]
        assert SECOND == 10**9


@pytest.mark.parametrize(
    ("row", "port"),
    [
        ({"sport": 51000, "dport": 8080}, 8080),
        ({"sport": 8080, "dport": 51000}, 8080),
        ({"sport": 8080, "dport": 9, "tcp_flags": 0x02}, 9),
        ({"sport": 40000, "dport": 50000, "tcp_flags": 0x12}, 40000),
        ({"sport": 40000, "dport": 50000, "protocol": "UDP"}, 50000),
        ({"sport": 50000, "dport": 40000, "protocol": "UDP", "path": "output"}, 40000),
        ({"sport": 53, "dport": 50000, "protocol": "UDP", "path": "input"}, 53),
        ({}, None),
    ],
)
def test_the_port_of_an_event_is_the_services(
    tmp_path: Path, row: dict[str, object], port: int | None
) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET", **row}])
    maker.finish()
    with open_recording(tmp_path / "r") as rec:
        assert rec.sql("SELECT port FROM events").fetchall() == [(port,)]
