# ruff: noqa: E501
from __future__ import annotations

import io
import ipaddress
import itertools
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.analyze import QueryError, open_recording
from droptape.analyze.bundle.addresses import Addresses
from droptape.analyze.bundle.names import Names
from droptape.format.manifest import Host
from droptape.format.schema import Column, Table
from droptape.format.types import STRING, U32, WALL
from unit.analyze.make import OLD_BASE, START, Maker, address

KEY = b"k" * 32
FOUR = ("10.11.12.13", "10.11.12.99", "192.168.7.9", "203.0.113.77", "198.51.100.200")
SIX = ("2001:db8:aaaa::77", "2001:db8:aaaa::78", "fe80::1ff:fe23:4567:890a", "fd12:3456:789a::1")
NAMES = (
    "billing-db", "nginx-secret", "veth9f3c2a1", "acme0", "prod-tenant", "billing.service",
    "kubepods-pod77.slice", "cri-containerd-deadbeef.scope", "deadbeefcafe", "jsmith",
    "web-7.acme.example", "1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f", "ffffeeee-dddd-cccc-bbbb-aaaa99998888",
    "/opt/acme/billing-db", "--password=hunter2", "rec-id-1234567890", "deploy of ticket 4711",
    "imported-secret", "unknown-secret",
)  # fmt: skip
(PROC, NGINX, VETH, ACME, TENANT, _UNIT, _POD, _SCOPE, CONTAINER, USER, HOST, MACHINE, BOOT, EXE,
 PASSWORD, ID, MARK, IMPORTED, UNKNOWN) = NAMES  # fmt: skip
CGROUP = f"/kubepods.slice/{_POD}/{_SCOPE}"
SEQ, ACK, UID = 0xDEAD_BEE5, 0xFEED_FACE, 913_577


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording in which every private value stands wherever one can stand."""
    maker = Maker(tmp_path_factory.mktemp("private") / f"droptape-{HOST}", host=HOST)
    events = [
        {"at": 1 + i, "saddr": source, "daddr": target, "ip_version": version, "sport": 40_000 + i,
         "dport": 443, "netns": 77, "cgroup_id": 42, "owner_pid": 10, "owner_comm": PROC,
         "context_comm": NGINX, "ifname": VETH, "uid": UID, "owner_source": "io"}
        for version, addresses in ((4, FOUR), (6, SIX))
        for i, (source, target) in enumerate(itertools.permutations(addresses, 2))
    ]  # fmt: skip
    place = {"location": 0x1234, "seq": SEQ, "ack": ACK}
    maker.seal("drops", [{**e, **place, "reason": "NO_SOCKET"} for e in events[:20]])
    maker.journal("drops", [{**e, **place, "reason": "NO_SOCKET"} for e in events[20:]])
    maker.seal("retransmits", [{**e, "kind": "RTO", "segments": 1} for e in events])
    maker.seal("listen", [{**e, "event": "accept_queue_full", "laddr": e["daddr"], "lport": 443}
                          for e in events])  # fmt: skip
    maker.seal("resets", [{**e, "reason": "NO_SOCKET"} for e in events])
    maker.seal("listeners", [
        {"at": 1, "laddr": a, "lport": 443, "netns": 77, "owner_comm": PROC, "open": 1,
         "cgroup_id": 42} for a in (*FOUR, *SIX)
    ])  # fmt: skip
    maker.seal("counters", [
        {"at": 1, "netns": 77, "device": ACME, "name": "link.rx_dropped", "value": 5},
        {"at": 9, "netns": 77, "device": ACME, "name": "link.rx_dropped", "value": 7},
        {"at": 1, "netns": 77, "device": "lo", "name": "link.rx_packets", "value": 7},
    ])  # fmt: skip
    maker.seal("totals", [{"at": 30, "kind": "drops", "cause": "NO_SOCKET", "location": 0x1234,
                           "netns": 77, "events": 32, "recorded": 32}])  # fmt: skip
    maker.symbols()
    maker.dictionary("cgroups", [
        {"id": 42, "path": CGROUP, "container": CONTAINER, "runtime": "containerd"},
        {"id": 43, "path": f"/system.slice/{_UNIT}", "container": _UNIT},
    ])  # fmt: skip
    maker.dictionary("netns", [{"inum": 77, "name": TENANT, "pid": 9}, {"inum": 1, "name": "host"}])
    maker.dictionary("processes", [{"pid": 10, "comm": PROC, "exe": EXE, "uid": UID,
                                    "cgroup": CGROUP}])  # fmt: skip
    maker.dictionary("sysctls", [
        {"ts": START, "netns": 77, "name": "net.core.somaxconn", "value": "4096"},
        {"ts": START, "netns": 77, "name": f"net.ipv4.conf.{ACME}.rp_filter", "value": "1"},
    ])  # fmt: skip
    maker.dictionary("marks", [{"ts": START + 10**9, "text": MARK, "source": USER}])
    odd = Table("imported_k6", "Load.", (Column("ts", WALL, "t"), Column("url", STRING, "u"),
                                         Column("ms", U32, "d")), role="series")  # fmt: skip
    maker.tables["imported_k6"] = odd
    maker.dictionary("imported_k6", [{"ts": START, "url": f"http://{IMPORTED}/", "ms": 4}])
    new = Table("newkind", "Unknown to this version.",
                (Column("ts", WALL, "t"), Column("secret", STRING, "u")), role="dictionary")  # fmt: skip
    maker.tables["newkind"] = new
    maker.dictionary("newkind", [{"ts": START, "secret": UNKNOWN}])
    host = Host(HOST, BOOT, "6.18.1", "x86_64", 4, "Debian GNU/Linux 12", MACHINE)
    return maker.finish(
        host=host, recording_id=ID, ended_by=f"{PROC} {PASSWORD} ended",
        options={"events": ["drops"], "command": f"{PROC} {PASSWORD}", "group": USER},
        notes=[f"{PROC} in {TENANT} on {FOUR[0]} was not seen"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def redacted(private: Path) -> Path:
    (private.parent / "key").write_bytes(KEY)
    with open_recording(private) as rec:
        return rec.bundle(private.parent / "x.droptape", redact=True, key=private.parent / "key")


def contents(bundle: Path) -> Iterator[tuple[str, bytes]]:
    """Everything in a bundle as bytes, unpacked, Parquet pages as plain columns too."""
    yield "archive", bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            yield name, data
            if not name.endswith(".parquet"):
                continue
            file = pq.ParquetFile(io.BytesIO(data))
            yield f"{name} footer", str(file.metadata.metadata).encode()
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            statistics = [g.column(c).statistics for g in groups for c in range(g.num_columns)]
            for found in filter(None, statistics):
                if found.has_min_max:
                    yield f"{name} statistics", f"{found.min!s} {found.max!s}".encode()
            rows = file.read()
            out = io.BytesIO()
            # As plain pages, so that no encoding hides a value.
            pq.write_table(rows, out, compression="none", use_dictionary=False, store_schema=False,
                           write_statistics=False)  # fmt: skip
            yield f"{name} plain", out.getvalue()
            texts = [c for c in rows.columns if pa.types.is_string(c.type)]
            yield f"{name} texts", json.dumps([c.to_pylist() for c in texts]).encode()


def spellings(text: str) -> Iterator[bytes]:
    """An address as it can be stored or written."""
    parsed = ipaddress.ip_address(text)
    yield text.encode()
    yield parsed.exploded.encode()
    yield parsed.packed.hex().encode()
    yield address(text)
    if parsed.version == 6:
        yield parsed.packed
    else:
        yield b"\xff\xff" + parsed.packed
        yield str(int(parsed)).encode()


def test_the_hunt_finds_what_is_not_redacted(private: Path) -> None:
    """The test below would notice: the same hunt in a bundle that is not redacted."""
    with open_recording(private) as rec:
        plain = rec.bundle(private.parent / "plain.droptape")
    found = dict.fromkeys(itertools.chain(NAMES, FOUR, SIX), False)
    for _, data in contents(plain):
        for name in NAMES:
            found[name] |= name.encode() in data
        for text in (*FOUR, *SIX):
            found[text] |= any(spelling in data for spelling in spellings(text))
    missing = {name for name, seen in found.items() if not seen}
    assert missing <= {_UNIT}  # a cgroup that nothing refers to


def test_no_original_value_is_left(redacted: Path) -> None:
    for where, data in contents(redacted):
        for name in NAMES:
            assert name.encode() not in data, (where, name)
        for text in (*FOUR, *SIX):
            for spelling in spellings(text):
                assert spelling not in data, (where, text, spelling)
        for number in (SEQ, ACK, UID):
            if "plain" in where:
                assert number.to_bytes(8, "little") not in data, (where, number)
            assert str(number).encode() not in data, (where, number)
        assert f"{OLD_BASE + 0x1234:x}".encode() not in data, where


def test_what_explains_is_still_there(private: Path, redacted: Path) -> None:
    same = (
        'SELECT reason, function, "offset", module, dport, sum(weight) FROM drops GROUP BY ALL',
        "SELECT kind, sum(segments) FROM retransmits GROUP BY ALL",
        "SELECT name, value FROM counters ORDER BY ALL",
        "SELECT name, value FROM sysctls WHERE name = 'net.core.somaxconn'",
        "SELECT count(DISTINCT saddr), count(DISTINCT daddr), count(DISTINCT owner_comm) FROM drops",
        "SELECT kind, cause, sum(events), sum(recorded) FROM totals GROUP BY ALL",
    )
    with open_recording(private) as rec, open_recording(redacted) as hidden:
        for sql in same:
            assert hidden.sql(sql).fetchall() == rec.sql(sql).fetchall()
        owner, context, device, space, group, container, uid = hidden.sql(
            "SELECT any_value(owner_comm), any_value(context_comm), any_value(ifname),"
            "any_value(netns_name), any_value(cgroup), any_value(container), any_value(uid)"
            "FROM drops"
        ).fetchall()[0]
        assert re.fullmatch(r"proc-[0-9a-f]{8}", owner)
        assert re.fullmatch(r"proc-[0-9a-f]{8}", context)
        assert owner != context
        assert re.fullmatch(r"if-[0-9a-f]{8}", device)
        assert re.fullmatch(r"ns-[0-9a-f]{8}", space)
        assert re.fullmatch(r"/kubepods\.slice/cg-[0-9a-f]{8}\.slice/cg-[0-9a-f]{8}\.scope", group)
        assert re.fullmatch(r"cont-[0-9a-f]{8}", container)
        assert uid >= 100_000
        assert hidden.sql("SELECT comm, exe FROM processes").fetchall() == [(owner, None)]
        assert ("lo",) in hidden.sql("SELECT DISTINCT device FROM counters").fetchall()
        info = hidden.info().recordings[0]
        assert info.host is not None
        assert re.fullmatch(r"host-[0-9a-f]{8}", info.host.name)
        assert info.host.kernel == "6.18.1"
        assert "imported_k6" not in hidden.tables
        assert "newkind" not in hidden.tables
        assert "2 tables are left out" in " ".join(info.notes)
        assert set(info.options) == {"events", "bundle"}
        assert f"{owner} in {space} on 10." in info.notes[0]


def test_the_same_key_gives_the_same_names(private: Path, redacted: Path, tmp_path: Path) -> None:
    sql = "SELECT DISTINCT saddr, owner_comm, uid FROM drops ORDER BY ALL"
    with open_recording(private) as rec:
        part = rec.bundle(
            tmp_path / "part.droptape", redact=True, key=private.parent / "key", end="+4s"
        )
        other = rec.bundle(tmp_path / "other.droptape", redact=True)
        third = rec.bundle(tmp_path / "third.droptape", redact=True)
    with open_recording(redacted) as a, open_recording(part) as b, open_recording(other) as c:
        ours, same, others = (set(r.sql(sql).fetchall()) for r in (a, b, c))
    assert same <= ours
    assert same
    assert not {row[1] for row in others} & {row[1] for row in ours}
    assert other.read_bytes() != third.read_bytes()


def test_a_key_is_made_once(private: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    with open_recording(private) as rec:
        rec.bundle(tmp_path / "1.droptape", redact=True, key=key)
        assert key.stat().st_mode & 0o777 == 0o600
        made = key.read_bytes()
        rec.bundle(tmp_path / "2.droptape", redact=True, key=key)
        assert key.read_bytes() == made
        short = tmp_path / "short"
        short.write_bytes(b"x")
        with pytest.raises(QueryError, match="is no key"):
            rec.bundle(tmp_path / "3.droptape", redact=True, key=short)
        with pytest.raises(QueryError, match="--key is for --redact"):
            rec.bundle(tmp_path / "3.droptape", key=key)
    with zipfile.ZipFile(tmp_path / "1.droptape") as archive:
        assert not any(made.strip() in archive.read(name) for name in archive.namelist())


# --- addresses -----------------------------------------------------------------------------------


def mapped(text: str, key: bytes = KEY) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    out = ipaddress.IPv6Address(Addresses(key)(address(text)))
    return out.ipv4_mapped or out


def common(a: bytes, b: bytes) -> int:
    bits = "".join(f"{x ^ y:08b}" for x, y in zip(a, b, strict=True))
    return len(bits) - len(bits.lstrip("0"))


_SPECIAL = (
    "0.0.0.0",
    "127.0.0.1",
    "127.3.2.1",
    "224.0.0.251",
    "255.255.255.255",
    "::",
    "::1",
    "ff02::1",
)


@given(st.ip_addresses(v=4), st.integers(0, 31))
def test_prefixes_are_kept_ipv4(first: ipaddress.IPv4Address, bit: int) -> None:
    second = ipaddress.IPv4Address(int(first) ^ 1 << bit)
    a, b = mapped(str(first)), mapped(str(second))
    if (
        not {str(first), str(second)} & set(_SPECIAL)
        and not first.is_loopback
        and not second.is_loopback
    ):
        identity = [x for x in (first, second) if x in ipaddress.ip_network("224.0.0.0/24")]
        if not identity:
            assert common(a.packed, b.packed) == common(first.packed, second.packed)
    assert a != b


@given(st.ip_addresses(v=6), st.integers(0, 127))
def test_prefixes_are_kept_ipv6(first: ipaddress.IPv6Address, bit: int) -> None:
    second = ipaddress.IPv6Address(int(first) ^ 1 << bit)
    if first.ipv4_mapped or second.ipv4_mapped:
        return
    a = Addresses(KEY)(first.packed)
    b = Addresses(KEY)(second.packed)
    if (
        int(first) > 1
        and int(second) > 1
        and not {first, second} & set(map(ipaddress.ip_address, ()))
    ):
        multicast = ipaddress.ip_network("ff02::/120")
        if first not in multicast and second not in multicast:
            assert common(a, b) == common(first.packed, second.packed)


@pytest.mark.parametrize("text", _SPECIAL)
def test_addresses_that_mean_the_same_everywhere_stay(text: str) -> None:
    assert str(mapped(text)) == text


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.1.2.3", "10.0.0.0/8"), ("172.20.1.1", "172.16.0.0/12"), ("192.168.1.1", "192.168.0.0/16"),
     ("169.254.9.9", "169.254.0.0/16"), ("239.1.2.3", "224.0.0.0/4"), ("fe80::1234:5", "fe80::/10"),
     ("fd00::1:2", "fc00::/7"), ("ff05::1:3:77", "ff00::/12")],
)  # fmt: skip
def test_what_kind_of_address_it_is_stays(text: str, network: str) -> None:
    changed = {mapped(text, bytes([k]) * 32) for k in range(8)}
    assert all(one in ipaddress.ip_network(network) for one in changed)
    assert len(changed) > 4


def test_ordinary_addresses_do_not_become_special() -> None:
    for k in range(20):
        for text in ("8.8.8.8", "11.1.1.1", "128.1.1.1", "192.169.0.1", "172.32.0.1", "223.5.5.5"):
            changed = mapped(text, bytes([k]) * 32)
            assert not changed.is_private or changed.is_global or changed.is_reserved, (
                text,
                changed,
            )
            assert not changed.is_loopback
            assert not changed.is_multicast


def test_addresses_depend_on_the_key() -> None:
    assert len({mapped("203.0.113.77", bytes([k]) * 32) for k in range(50)}) > 45


def test_names_of_the_kernel_stay() -> None:
    names = Names(KEY)
    assert names.process("swapper/3") == "swapper/3"
    assert names.process("swapper/3x") != "swapper/3x"
    assert names.namespace("host") == "host"
    assert names.device("lo") == "lo"
    assert names.cgroup("/system.slice") == "/system.slice"
    assert names.setting("net.ipv4.conf.all.rp_filter") == "net.ipv4.conf.all.rp_filter"
    assert names.setting("net.ipv4.conf.eth0.rp_filter").startswith("net.ipv4.conf.if-")
