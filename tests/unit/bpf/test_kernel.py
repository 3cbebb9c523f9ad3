"""Facts about the running system."""

from __future__ import annotations

from pathlib import Path

from droptape.bpf.kernel import Symbols

_KALLSYMS = """\
0000000000001000 D per_cpu_data
ffffffff81000000 T _stext
ffffffff81000000 T startup_64
ffffffff81000100 t alias_of_first
ffffffff81000100 T first
ffffffff81000100 t first.cold
ffffffff81000180 d data_within
ffffffff81000200 T second
ffffffff81000300 W last
ffffffffc0000300 t inner	[ipv6]
ffffffffc0000000 t first	[ipv6]
ffffffffc0000100 T ip6_input	[ipv6]
ffffffffc0000200 d data	[ipv6]
ffffffffc0000280 t other	[bridge]
"""
_HIDDEN = "".join(f"{0:016x}{line[16:]}\n" for line in _KALLSYMS.splitlines())


def symbols(folder: Path, text: str) -> Symbols:
    path = folder / "kallsyms"
    path.write_text(text)
    return Symbols(path)


def test_a_function_ends_where_the_next_begins(tmp_path: Path) -> None:
    found = symbols(tmp_path, _KALLSYMS).functions(["first", "second", "fir", "data_within", "no"])
    assert found == {
        "first": (0xFFFFFFFF81000100, 0xFFFFFFFF81000200),
        "second": (0xFFFFFFFF81000200, 0xFFFFFFFF81000300),
    }


def test_symbols_of_modules_are_in_no_order(tmp_path: Path) -> None:
    found = symbols(tmp_path, _KALLSYMS).functions(["ip6_input", "inner", "other"])
    assert found == {
        "ip6_input": (0xFFFFFFFFC0000100, 0xFFFFFFFFC0000300),
        "other": (0xFFFFFFFFC0000280, 0xFFFFFFFFC0000300),
    }


def test_addresses_of_any_kind(tmp_path: Path) -> None:
    known = symbols(tmp_path, _KALLSYMS)
    names = "per_cpu_data", "_stext", "last", "no_such"
    assert [known.address(name) for name in names] == [
        0x1000, 0xFFFFFFFF81000000, 0xFFFFFFFF81000300, 0,
    ]  # fmt: skip


def test_hidden_addresses_are_unknown(tmp_path: Path) -> None:
    hidden = symbols(tmp_path, _HIDDEN)
    assert hidden.functions(["first", "last"]) == {}
    assert hidden.address("first") == 0
    assert hidden.functions([]) == {}
    assert symbols(tmp_path, "").functions(["first"]) == {}
