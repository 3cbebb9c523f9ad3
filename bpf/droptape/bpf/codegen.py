"""C that depends on the declarations and on the running kernel.

The sources name kernel members, enums and functions where they use them (core/read.h).
`kernel_facts` finds those names and defines each from BTF and the symbol table. `declarations`
makes the structs and constants of the event kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from droptape.format.common import COMMON
from droptape.format.schema import Enum, Table

from .btf import Btf

_INCLUDE = re.compile(r'^#include "([\w./]+)"$', re.MULTILINE)
_CALL = re.compile(r"\b(READ|READ_BITS|ADDRESS_OF|HAS|OFFSET|HAS_ENUM|ENUM|ARGS|IN_FUNCTION)\(")
_DEFINE = re.compile(r"^#define (?:.*\\\n)*.*$", re.MULTILINE)
_MIB = re.compile(r"\bMIB_([A-Z0-9]+)\b")
_REASON = re.compile(r"\bREASON_IS\(\w+, (\w+)\)")
_INTEGER = {1: "__u8", 2: "__u16", 4: "__u32", 8: "__u64"}


def join_sources(paths: Iterable[Path], root: Path) -> str:
    """Return the sources as one text, each file that they include once, in order of first use.

    bcc rewrites map access only in the file it is given, so there has to be one. `#line` keeps the
    compiler's messages pointing at the real files.
    """
    seen: set[Path] = set()

    def expand(path: Path) -> str:
        seen.add(path)
        text = path.read_text()
        out: list[str] = [f'#line 1 "{path.name}"\n']
        at = 0
        for match in _INCLUDE.finditer(text):
            included = root / match[1]
            out.append(text[at : match.start()])
            if included not in seen:
                out.append(expand(included))
            line = text.count("\n", 0, match.end()) + 2
            out.append(f'#line {line} "{path.name}"')
            at = match.end()
        out.append(text[at:])
        return "".join(out)

    return "\n".join(expand(path) for path in paths if path not in seen)


def calls(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (macro, arguments) for every use of a macro of core/read.h, nested ones included."""
    for match in _CALL.finditer(source):
        depth, start, arguments = 1, match.end(), []
        for at in range(match.end(), len(source)):
            char = source[at]
            if char in "([{":
                depth += 1
            elif char in ")]}":
                depth -= 1
            if depth == 0 or (depth == 1 and char == ","):
                arguments.append(source[start:at].strip())
                start = at + 1
            if depth == 0:
                break
        yield match[1], arguments


def function_names(source: str) -> set[str]:
    """Return the kernel functions that the source compares addresses with."""
    uses = _DEFINE.sub("", source)
    return {arguments[1] for macro, arguments in calls(uses) if macro == "IN_FUNCTION"}


def kernel_facts(source: str, btf: Btf, functions: Mapping[str, tuple[int, int]]) -> str:
    """Define everything that `source` wants to know of the kernel.

    Args:
        source: the joined sources.
        btf: the kernel's types.
        functions: address range of each function in `function_names`, if it exists.
    """
    source = _DEFINE.sub("", source)
    lines: list[str] = []
    members: set[tuple[str, str]] = set()
    enums: set[tuple[str, str]] = {
        ("skb_drop_reason", f"SKB_DROP_REASON_{name}") for name in _REASON.findall(source)
    }
    tracepoints: set[str] = set()
    for macro, arguments in calls(source):
        last = tuple(arguments[-2:])
        if not all(re.fullmatch(r"\w+", name) for name in last):
            continue
        if macro in ("HAS_ENUM", "ENUM"):
            enums.add((last[0], last[1]))
        elif macro == "ARGS":
            tracepoints.add(last[0])
        elif macro != "IN_FUNCTION":
            members.add((last[0], last[1]))
    for struct_name, name in sorted(members):
        lines += _member(btf, struct_name, name)
    for enum_name, name in sorted(enums):
        value = (btf.enum(enum_name) or {}).get(name)
        lines.append(f"#define HAS_ENUM_{enum_name}__{name} {int(value is not None)}")
        lines.append(f"#define ENUM_{enum_name}__{name} {value or 0}")
    for tracepoint in sorted(tracepoints):
        lines.append(f"#define ARGS_{tracepoint} {btf.tracepoint_arguments(tracepoint) or 0}")
    for name in sorted(set(_MIB.findall(source))):
        # Index 0 of the counters is never used, so a missing counter reads as 0.
        lines.append(f"#define MIB_{name} {btf.enumerator(f'LINUX_MIB_{name}') or 0}")
    for name in sorted(function_names(source)):
        start, end = functions.get(name, (0, 0))
        lines.append(f"#define SYMBOL_BYTES_{name} {end - start}")
    return "\n".join(lines) + "\n"


def _member(btf: Btf, struct_name: str, name: str) -> list[str]:
    member, tag = btf.member(struct_name, name), f"{struct_name}__{name}"
    if member is None:
        return [f"#define HAS_{tag} 0"]
    lines = [f"#define HAS_{tag} 1", f"#define OFFSET_{tag} {member.bit_offset // 8}"]
    if member.bits % 8 or member.bit_offset % 8:
        lines.append(f"#define SHIFT_{tag} {member.bit_offset % 8}")
        lines.append(f"#define BITS_{tag} {member.bits}")
    elif member.bits // 8 in _INTEGER:
        lines.append(f"typedef {_INTEGER[member.bits // 8]} TYPE_{tag};")
    return lines


def c_struct(name: str, table: Table) -> str:
    """Declare the record of `table` in C, and have the compiler check that NumPy agrees."""
    dtype = table.dtype
    offsets = {name: int(field[1]) for name, field in (dtype.fields or {}).items()}
    size = max(offsets[c.name] + np.dtype(c.type.dtype).itemsize for c in table)
    lines = [f"struct {name} {{"]
    lines += [f"    {column.type.c.format(name=column.name)};" for column in table]
    if dtype.itemsize > size:
        lines.append(f"    __u8 unused_[{dtype.itemsize - size}];")
    lines.append("};")
    checks = [(f"sizeof(struct {name})", dtype.itemsize)]
    checks += [(f"__builtin_offsetof(struct {name}, {c.name})", offsets[c.name]) for c in table]
    lines += [f'_Static_assert({what} == {value}, "{name}");' for what, value in checks]
    return "\n".join(lines) + "\n"


def c_enum(enum: Enum) -> str:
    """Declare our own enum as constants ``<ENUM>_<MEMBER>``."""
    return "".join(
        f"#define {enum.name.upper()}_{member.upper()} {number}\n"
        for number, member in enum.values.items()
    )


def c_row(table: Table) -> str:
    """Declare the record of a table that is not an event kind, ``struct <name>_row``."""
    return c_struct(f"{table.name}_row", table)


def declarations(tables: Sequence[Table], ring_pages: Mapping[str, int]) -> str:
    """Declare structs, rings, constants and kind numbers of the event kinds.

    Args:
        tables: the event tables, numbered in this order.
        ring_pages: pages of each table's ring.
    """
    parts = [c_struct("common_event", Table("common", "", COMMON))]
    enums: dict[str, Enum] = {}
    for number, table in enumerate(tables):
        if table.columns[: len(COMMON)] != COMMON:
            raise ValueError(f"{table.name} does not start with the common columns")
        parts.append(f"#define KIND_{table.name.upper()} {number}\n")
        parts.append(c_struct(f"{table.name}_event", table))
        parts.append(f"BPF_RINGBUF_OUTPUT(ring_{table.name}, {ring_pages[table.name]});\n")
        for column in table:
            if column.enum is not None and not column.enum.kernel:
                enums[column.enum.name] = column.enum
    parts.append(f"#define KIND_COUNT {len(tables)}\n")
    parts += [c_enum(enum) for enum in enums.values()]
    return "".join(parts)
