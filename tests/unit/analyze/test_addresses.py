from __future__ import annotations

import ipaddress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droptape.analyze import Recording
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
