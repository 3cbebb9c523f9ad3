"""The BTF reader, on the running kernel and on damaged input."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.bpf.btf import VMLINUX, Btf, BtfError
from droptape.bpf.reasons import reasons

needs_btf = pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf.load()


def make_btf(types: bytes, strings: bytes) -> bytes:
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + (
        types + strings
    )


STRINGS = b"\0int\0point\0x\0y\0inner\0color\0RED\0BLUE\0"
TYPES = b"".join(
    (
        struct.pack("<IIII", 1, 1 << 24, 4, 32),  # 1: int
        # 2: unnamed struct {int y}
        struct.pack("<III", 0, 4 << 24 | 1, 4) + struct.pack("<III", STRINGS.index(b"y\0"), 1, 0),
        # 3: struct point {int x; struct {int y;};}
        struct.pack("<III", STRINGS.index(b"point"), 4 << 24 | 2, 8)
        + struct.pack("<III", STRINGS.index(b"x\0"), 1, 0)
        + struct.pack("<III", 0, 2, 32),
        # 4: enum color
        struct.pack("<III", STRINGS.index(b"color"), 6 << 24 | 2, 4)
        + struct.pack("<Ii", STRINGS.index(b"RED"), 0)
        + struct.pack("<Ii", STRINGS.index(b"BLUE"), 7),
    )
)


def test_members_also_of_unnamed_structs() -> None:
    made = Btf(make_btf(TYPES, STRINGS))
    x, y = made.member("point", "x"), made.member("point", "y")
    assert x is not None
    assert y is not None
    assert (x.bit_offset, x.bits, y.bit_offset, y.bits) == (0, 32, 32, 32)
    assert made.member("point", "z") is None
    assert made.member("line", "x") is None
    assert made.enum("color") == {"RED": 0, "BLUE": 7}
    assert made.enum("point") is None


@given(st.integers(0, len(make_btf(TYPES, STRINGS)) - 1))
def test_a_cut_file_is_refused(at: int) -> None:
    with pytest.raises(BtfError):
        Btf(make_btf(TYPES, STRINGS)[:at])


def test_no_btf_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="CONFIG_DEBUG_INFO_BTF"):
        Btf.load(tmp_path / "vmlinux")


@needs_btf
def test_the_running_kernel(btf: Btf) -> None:
    length = btf.member("sk_buff", "len")
    assert length is not None
    assert length.bits == 32
    assert btf.member("possible_net_t", "net") is not None
    state = btf.member("inet_connection_sock", "icsk_ca_state")
    assert state is not None
    assert state.bits < 8
    assert btf.tracepoint_arguments("tcp_destroy_sock") == 1
    assert btf.tracepoint_arguments("no_such_tracepoint") is None
    assert btf.enumerator("LINUX_MIB_LISTENDROPS")


@needs_btf
def test_reason_names_have_no_prefix(btf: Btf) -> None:
    names = {reason.name for reason in reasons(btf) if reason.enum == "skb_drop_reason"}
    if not names:
        pytest.skip("this kernel gives no drop reasons")
    assert {"NO_SOCKET", "NETFILTER_DROP"} <= names
    assert not any(name.startswith("SKB_") or name == "MAX" for name in names)


def test_a_file_that_was_given_and_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match=r"other\.btf"):
        Btf.load(tmp_path / "other.btf")


def test_a_file_that_has_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.btf").write_bytes(b"x" * 100)
    with pytest.raises(BtfError, match=r"other\.btf cannot be used: .* unknown format"):
        Btf.load(tmp_path / "other.btf")


def test_no_btf_names_the_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("droptape.bpf.btf.VMLINUX", tmp_path / "vmlinux")
    with pytest.raises(BtfError, match="--btf"):
        Btf.load(tmp_path / "vmlinux")
