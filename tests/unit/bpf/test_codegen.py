"""C made from declarations, and kernel facts found by what the sources use."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest

from droptape.bpf import codegen, kernel
from droptape.bpf.btf import VMLINUX, Btf
from droptape.bpf.kinds import all_kinds
from droptape.bpf.source import source_for
from droptape.format.common import COMMON
from droptape.format.schema import Column, Table
from droptape.format.types import U8, U64

ROOT = Path(codegen.__file__).parent
needs_btf = pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")


def test_the_compiler_agrees_with_numpy_about_every_record(tmp_path: Path) -> None:
    lines = ['#include "include/linux/types.h"']
    lines += [codegen.c_struct(f"{name}_event", kind.table) for name, kind in all_kinds().items()]
    source = tmp_path / "structs.c"
    source.write_text("\n".join(lines))
    command = ["cc", "-std=gnu11", "-fsyntax-only", f"-I{ROOT / 'headers'}", str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    assert done.returncode == 0, done.stderr


def test_a_record_is_a_multiple_of_8_bytes_and_padding_is_named() -> None:
    table = Table("t", "", (Column("a", U64, "a"), Column("b", U8, "b")))
    text = codegen.c_struct("t_event", table)
    assert "__u8 unused_[7];" in text
    assert "_Static_assert(sizeof(struct t_event) == 16" in text


def test_each_include_is_expanded_once(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "b.h").write_text("b\n")
    (tmp_path / "core" / "a.h").write_text('#include "core/b.h"\na\n')
    first, second = tmp_path / "1.c", tmp_path / "2.c"
    first.write_text('#include "core/a.h"\n#include "core/b.h"\none\n')
    second.write_text('#include "core/a.h"\ntwo\n')
    text = codegen.join_sources([first, second], tmp_path)
    words = [line for line in text.splitlines() if line and not line.startswith("#line")]
    assert words == ["b", "a", "one", "two"]
    assert '#line 3 "1.c"\none' in re.sub(r"\n+", "\n", text)


def test_calls_are_found_with_their_arguments() -> None:
    text = "x = READ(sk + OFFSET(sock, sk_cgrp_data), sock_cgroup_data, cgroup);"
    assert list(codegen.calls(text)) == [
        ("READ", ["sk + OFFSET(sock, sk_cgrp_data)", "sock_cgroup_data", "cgroup"]),
        ("OFFSET", ["sock", "sk_cgrp_data"]),
    ]


@needs_btf
def test_facts_tell_what_the_kernel_has_and_what_it_lacks() -> None:
    source = (
        "a = READ(skb, sk_buff, len); b = HAS(sk_buff, no_such_member);\n"
        "c = READ_BITS(sk, inet_connection_sock, icsk_ca_state);\n"
        "d = ARGS(no_such_tracepoint) + ENUM(skb_drop_reason, NO_SUCH_REASON);\n"
        "e = IN_FUNCTION(x, tcp_v4_rcv) + IN_FUNCTION(x, no_such_function);\n"
    )
    facts = codegen.kernel_facts(source, Btf.load(), {"tcp_v4_rcv": (16, 32)})
    lines = facts.splitlines()
    assert "#define HAS_sk_buff__len 1" in lines
    assert "typedef __u32 TYPE_sk_buff__len;" in lines
    assert "#define HAS_sk_buff__no_such_member 0" in lines
    assert "#define BITS_inet_connection_sock__icsk_ca_state 5" in lines
    assert "#define ARGS_no_such_tracepoint 0" in lines
    assert "#define HAS_ENUM_skb_drop_reason__NO_SUCH_REASON 0" in lines
    assert "#define SYMBOL_BYTES_tcp_v4_rcv 16" in lines
    # An address is never in a function that does not exist.
    assert "#define SYMBOL_BYTES_no_such_function 0" in lines


class _NextBoot(kernel.Symbols):
    """The same kernel, elsewhere in memory."""

    MOVED = 0x2A00000

    def address(self, name: str) -> int:
        found = super().address(name)
        return found and found + self.MOVED

    def functions(self, names: Collection[str]) -> dict[str, tuple[int, int]]:
        found = super().functions(names)
        return {name: (a + self.MOVED, b + self.MOVED) for name, (a, b) in found.items()}


@needs_btf
def test_the_next_boot_compiles_the_same_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(codegen.function_names(codegen.join_sources(ROOT.glob("*/*.c"), ROOT)))
    text = "".join(f"{0xFFFFFFFF81000000 + 4096 * n:x} T {name}\n" for n, name in enumerate(names))
    (tmp_path / "kallsyms").write_text(text)
    made = []
    for symbols in kernel.Symbols, _NextBoot:
        monkeypatch.setattr(kernel, "Symbols", partial(symbols, tmp_path / "kallsyms"))
        made.append(source_for(list(all_kinds().values()), Btf.load(), 0, record_benign=False))
    assert made[0].texts == made[1].texts
    moved = [b - a for a, b in zip(made[0].addresses, made[1].addresses, strict=True)]
    assert set(moved) == {0, _NextBoot.MOVED}
    assert len(made[0].addresses) == len(names) + 1


def test_an_event_table_has_to_start_with_the_common_columns() -> None:
    table = Table("odd", "", (Column("a", U64, "a"), *COMMON))
    with pytest.raises(ValueError, match="common columns"):
        codegen.declarations([table], {"odd": 1})
