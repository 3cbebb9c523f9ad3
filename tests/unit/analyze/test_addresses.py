from __future__ import annotations

import ipaddress

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droptape.analyze import QueryError, Recording, addresses
from unit.analyze.make import address


def texts(rec: Recording, values: list[bytes | None]) -> list[str | None]:
    rows = rec.connection.sql(
        "SELECT addr_text(v) AS a FROM (SELECT unnest($values::BLOB[]) AS v)",
        params={"values": values},
    ).fetchall()
    return [row[0] for row in rows]


def expected(value: bytes) -> str:
    parsed = ipaddress.IPv6Address(value)
    return str(parsed.ipv4_mapped or parsed)


# Groups that are often zero, so that runs of zeros of every length and place occur.
GROUPS = st.lists(
    st.one_of(st.just(0), st.just(0), st.integers(0, 0xFFFF), st.sampled_from([1, 0xA, 0xFFFF])),
    min_size=8,
    max_size=8,
).map(lambda groups: b"".join(g.to_bytes(2, "big") for g in groups))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    values=st.lists(
        st.one_of(
            GROUPS,
            st.binary(min_size=16, max_size=16),
            st.ip_addresses(v=4).map(lambda a: address(str(a))),
        ),
        max_size=50,
    )
)
def test_addresses_are_written_as_the_standard_library_writes_them(
    rec: Recording, values: list[bytes]
) -> None:
    assert texts(rec, list(values)) == [expected(value) for value in values]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(GROUPS)
def test_addresses_are_read_as_they_are_written(rec: Recording, value: bytes) -> None:
    query = "SELECT addr($text)"
    assert rec.sql(query, {"text": expected(value)}).fetchall() == [(value,)]
    v4 = str(ipaddress.IPv4Address(value[-4:]))
    assert rec.sql(query, {"text": v4}).fetchall() == [(address(v4),)]


def test_the_raw_views_are_asked_by_address(rec: Recording) -> None:
    query = "SELECT count(*) FROM raw.drops WHERE saddr = addr('2001:db8::7')"
    assert rec.sql(query).fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::"),
        ("::1", "::1"),
        ("fe80::", "fe80::"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"),
        ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ],
)
def test_known_addresses(rec: Recording, text: str, shown: str) -> None:
    assert texts(rec, [address(text)]) == [shown]


def test_no_address_stays_none(rec: Recording) -> None:
    assert texts(rec, [None, address("10.0.0.1")]) == [None, "10.0.0.1"]


NARROWED = (
    ("SELECT * FROM drops WHERE saddr = '10.0.0.7'", None),
    ("SELECT * FROM drops WHERE '2001:db8::7' = SADDR AND dport > 0", None),
    ('FROM main.Drops AS "D x" SELECT count(*), min(saddr) WHERE "D x".saddr = ?', ["10.0.0.7"]),
    ("SELECT saddr, count(*) FROM drops d WHERE d.saddr IN ('10.0.0.7', $a) GROUP BY ALL",
     {"a": "2001:db8::7"}),
    ("SELECT * FROM drops WHERE saddr = '10.0.0.2' OR daddr = '10.0.0.2'", None),
    ("SELECT * FROM drops WHERE saddr = '10.0.0.7' AND saddr = '10.0.0.2'", None),
    ("SELECT * FROM drops WHERE saddr LIKE '10.0.%'", None),
    ("SELECT * FROM drops WHERE saddr LIKE '10.0.1.%'", None),
    ("SELECT * FROM drops WHERE saddr = '::'", None),
    ("SELECT * FROM events WHERE daddr = '10.0.0.2' -- to the server", None),
    ("SELECT * FROM listen WHERE laddr = '::' AND saddr <> '10.0.0.9'", None),
    ("SELECT 'ä', n FROM (SELECT count(*) n FROM drops WHERE saddr = '10.0.0.7')", None),
    ("SELECT 'ä', * FROM retransmits WHERE daddr IN ('10.0.0.7', '10.0.0.2')", None),
    ("SELECT daddr AS saddr FROM drops WHERE saddr = '10.0.0.7'", None),
    ("WITH x AS (SELECT * FROM drops WHERE saddr = '10.0.0.7') SELECT count(*) FROM x", None),
)  # fmt: skip

AS_WRITTEN = (
    "SELECT * FROM drops WHERE saddr = '::ffff:10.0.0.7'",
    "SELECT * FROM drops WHERE saddr = '2001:DB8::7'",
    "SELECT * FROM drops WHERE saddr = '2001:db8::7%eth0'",
    "SELECT * FROM drops WHERE saddr IN ('10.0.0.7', 'nonsense')",
    "SELECT * FROM drops WHERE saddr IN ('10.0.0.7', NULL)",
    "SELECT * FROM drops WHERE saddr = daddr OR saddr = '10.0.0.7'",
    "SELECT * FROM drops WHERE saddr = '10.0.0.7' OR dport = 8080",
    "SELECT * FROM drops WHERE NOT saddr = '10.0.0.7'",
    "SELECT * FROM drops WHERE saddr NOT IN ('10.0.0.7')",
    "SELECT * FROM drops WHERE saddr LIKE '10.0.0._'",
    "SELECT * FROM drops WHERE saddr LIKE '%.7'",
    "SELECT x FROM drops AS d(x) WHERE d.saddr = '10.0.0.7'",
    # Its column is called like its text.
    "SELECT (SELECT count(*) FROM drops WHERE saddr = '10.0.0.7')",
    "SELECT l.lport FROM listen l LEFT JOIN drops d USING (saddr) WHERE d.saddr = '10.0.0.7'",
    "WITH drops AS (SELECT '10.0.0.7' AS saddr) SELECT * FROM drops WHERE saddr = '10.0.0.7'",
    "SELECT count(*) > 0 FROM drops TABLESAMPLE 100% WHERE saddr = '10.0.0.7'",
    "SELECT saddr FROM drops",
)


def ordered(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(rows, key=repr)


@pytest.mark.parametrize(("query", "params"), NARROWED)
def test_a_condition_on_an_address_is_asked_of_the_bytes(
    rec: Recording, query: str, params: list[str] | dict[str, str] | None
) -> None:
    narrowed = addresses.narrowed(rec.connection, query, params, rec.views)
    assert "BLOB" in narrowed
    plain = rec.connection.sql(query, params=params)
    faster = rec.sql(query, params)
    assert (faster.columns, faster.types) == (plain.columns, plain.types)
    assert ordered(faster.fetchall()) == ordered(plain.fetchall())


@pytest.mark.parametrize("query", AS_WRITTEN)
def test_other_conditions_on_addresses_stay_as_they_are(rec: Recording, query: str) -> None:
    assert addresses.narrowed(rec.connection, query, None, rec.views) == query
    plain = rec.connection.sql(query)
    assert rec.sql(query).columns == plain.columns
    assert ordered(rec.sql(query).fetchall()) == ordered(plain.fetchall())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(GROUPS, st.ip_addresses(v=4).map(lambda a: address(str(a)))))
def test_every_address_is_found_by_its_text(rec: Recording, value: bytes) -> None:
    query = "SELECT * FROM drops WHERE saddr = ?"
    narrowed = addresses.narrowed(rec.connection, query, [expected(value)], rec.views)
    ((found,),) = rec.connection.sql(
        f"SELECT {narrowed.partition('IN (')[2].partition('::BLOB)')[0]}::BLOB"
    ).fetchall()
    assert found == value


def test_explain_shows_what_runs(rec: Recording) -> None:
    rows = rec.sql("EXPLAIN SELECT count(*) FROM listen WHERE saddr = '10.0.0.7'").fetchall()
    assert "list_transform" not in rows[0][1]


def test_an_error_names_what_the_user_wrote(rec: Recording) -> None:
    with pytest.raises(QueryError, match="main"):
        rec.sql("SELECT main.other.saddr FROM drops WHERE saddr = '10.0.0.7'")
    query = "SELECT main.drops.dport FROM drops WHERE saddr = '10.0.0.7'"
    assert rec.sql(query).fetchall() == rec.connection.sql(query).fetchall() != []


ADDRESSES = st.sampled_from(
    ["10.0.0.7", "10.0.0.2", "2001:db8::7", "2001:DB8::7", "::", "::ffff:10.0.0.7", "", "no"]
)
COMPARED = st.one_of(
    st.builds("{} {} '{}'".format, st.sampled_from(["saddr", "DADDR", "drops.saddr"]),
              st.sampled_from(["=", "<>", ">"]), ADDRESSES),
    st.builds("'{1}' = {0}".format, st.sampled_from(["saddr", "daddr"]), ADDRESSES),
    st.builds("saddr {} ('{}', '{}')".format, st.sampled_from(["IN", "NOT IN"]), ADDRESSES,
              ADDRESSES),
    st.builds("{} {} '{}'".format, st.sampled_from(["saddr", "daddr"]),
              st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]),
              st.sampled_from(["10.%", "10.0.%", "1%", "%", "2001:%", "10.0.0._", "300.%"])),
    st.sampled_from(["saddr IS NULL", "saddr = daddr", "saddr = NULL", "dport > 80", "true"]),
)  # fmt: skip
CONDITIONS = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.builds("NOT {}".format, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CONDITIONS, st.sampled_from(["*", "saddr, count(*)", "count(*), min(daddr)"]))
def test_no_condition_has_another_answer(rec: Recording, condition: str, columns: str) -> None:
    query = f"SELECT {columns} FROM drops WHERE {condition}"
    query += " GROUP BY saddr" if columns.startswith("saddr") else ""
    plain = rec.connection.sql(query)
    assert answer(rec.sql(query)) == answer(plain)


def answer(found: duckdb.DuckDBPyRelation) -> tuple[object, ...]:
    """Columns, their types, and the rows in some order."""
    return found.columns, list(map(str, found.types)), sorted(map(repr, found.fetchall()))
