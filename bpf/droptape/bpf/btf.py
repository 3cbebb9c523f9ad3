"""A small reader of BTF, the kernel's description of its own types.

Only what the programs need: offsets of members, names of enums, arguments of tracepoints. The
format is documented in the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from droptape.format.errors import DroptapeError

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = range(9, 16)
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(16, 20)

# Bytes that follow the 12-byte header of a type: a constant plus so many per element.
_EXTRA = {
    _INT: (4, 0), _PTR: (0, 0), _ARRAY: (12, 0), _STRUCT: (0, 12), _UNION: (0, 12),
    _ENUM: (0, 8), _FWD: (0, 0), _TYPEDEF: (0, 0), _VOLATILE: (0, 0), _CONST: (0, 0),
    _RESTRICT: (0, 0), _FUNC: (0, 0), _FUNC_PROTO: (0, 8), _VAR: (4, 0), _DATASEC: (0, 12),
    _FLOAT: (0, 0), _DECL_TAG: (4, 0), _TYPE_TAG: (0, 0), _ENUM64: (0, 12),
}  # fmt: skip
_MODIFIERS = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)
_POINTER_BYTES = 8


class BtfError(DroptapeError):
    """BTF is missing or cannot be read."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member lies in its struct: bits from the start, width in bits, and its type id."""

    bit_offset: int
    bits: int
    type_id: int


class Btf:
    """The types of one kernel."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        """Index `data`, which continues `base` when it is a module's BTF; BtfError if damaged."""
        try:
            magic, _, _, header = struct.unpack_from("<HBBI", data)
            type_off, type_len, str_off, str_len = struct.unpack_from("<IIII", data, 8)
        except struct.error as exc:
            raise BtfError("the kernel's BTF is cut off") from exc
        if magic != 0xEB9F:
            raise BtfError("the kernel's BTF has an unknown format")
        if len(data) < header + max(type_off + type_len, str_off + str_len):
            raise BtfError("the kernel's BTF is cut off")
        self._data = data
        self._base = base
        self.end_id: int
        self.end_string: int
        self._first_id = base.end_id if base else 1
        self._first_string = base.end_string if base else 0
        self._strings = data[header + str_off : header + str_off + str_len]
        self.end_string = self._first_string + str_len
        self._offsets: list[int] = []
        self._named: dict[int, list[int]] = {}
        self._functions: dict[int, int] = {}
        at, end = header + type_off, header + type_off + type_len
        unpack = struct.Struct("<II").unpack_from
        type_id = self._first_id
        while at < end:
            name, info = unpack(data, at)
            kind = info >> 24 & 0x1F
            if kind not in _EXTRA:
                raise BtfError(f"the kernel's BTF has the unknown kind {kind}")
            self._offsets.append(at)
            if kind in (_STRUCT, _UNION, _ENUM, _ENUM64, _TYPEDEF):
                self._named.setdefault(name, []).append(type_id)
            elif kind == _FUNC:
                self._functions[name] = type_id
            fixed, each = _EXTRA[kind]
            at += 12 + fixed + each * (info & 0xFFFF)
            type_id += 1
        self.end_id = type_id

    @classmethod
    def load(cls, path: Path = VMLINUX, base: Btf | None = None) -> Btf:
        """Read a BTF file; BtfError when there is none."""
        try:
            return cls(path.read_bytes(), base)
        except BtfError as exc:
            raise BtfError(f"{path} cannot be used: {exc}") from exc
        except OSError as exc:
            raise BtfError(
                f"this kernel has no BTF ({path}: {exc.strerror}): it was built without "
                "CONFIG_DEBUG_INFO_BTF=y, or /sys is not mounted here; give a BTF file of exactly "
                "this kernel with --btf FILE (docs/KERNELS.md)"
                if path == VMLINUX
                else f"no BTF in {path}: {exc.strerror}; CONFIG_DEBUG_INFO_BTF makes it"
            ) from exc

    def _at(self, type_id: int) -> tuple[Btf, int]:
        if type_id >= self._first_id:
            return self, self._offsets[type_id - self._first_id]
        if self._base is None:
            raise BtfError(f"the kernel's BTF has no type {type_id}")
        return self._base._at(type_id)

    def _string(self, offset: int) -> str:
        if offset < self._first_string and self._base is not None:
            return self._base._string(offset)
        start = offset - self._first_string
        return self._strings[start : self._strings.index(b"\0", start)].decode()

    def _head(self, type_id: int) -> tuple[int, int, int, int, int]:
        """Return (kind, elements, kind flag, size or type, name offset) of a type."""
        owner, at = self._at(type_id)
        name, info, size = struct.unpack_from("<III", owner._data, at)
        return info >> 24 & 0x1F, info & 0xFFFF, info >> 31, size, name

    def _find(self, name: str, kinds: tuple[int, ...]) -> int | None:
        needle = b"\0" + name.encode() + b"\0"
        at = self._strings.find(needle)
        while at >= 0:
            for type_id in self._named.get(self._first_string + at + 1, ()):
                if self._head(type_id)[0] in kinds:
                    return type_id
            at = self._strings.find(needle, at + 1)
        return self._base._find(name, kinds) if self._base else None

    def struct_id(self, name: str) -> int | None:
        """Return the kernel's id of a struct or union, or of the one that a typedef names."""
        type_id = self._find(name, (_STRUCT, _UNION))
        if type_id is None:
            # Some structs have no name of their own, only a typedef, such as possible_net_t.
            typedef = self._find(name, (_TYPEDEF,))
            type_id = self._strip(typedef) if typedef else None
        return type_id

    def function_id(self, name: str) -> int | None:
        """Return the kernel's id of a function."""
        at = self._strings.find(b"\0" + name.encode() + b"\0")
        return self._functions.get(self._first_string + at + 1) if at >= 0 else None

    def has_struct(self, name: str) -> bool:
        """Say whether the kernel has a struct or union called `name`."""
        return self._find(name, (_STRUCT, _UNION)) is not None

    def member(self, struct_name: str, path: str) -> Member | None:
        """Find a member by name, also inside unnamed structs; `path` may go deeper with dots."""
        type_id = self.struct_id(struct_name)
        found: Member | None = None
        offset = 0
        for part in path.split("."):
            if type_id is None:
                return None
            found = self._member(type_id, part)
            if found is None:
                return None
            offset += found.bit_offset
            type_id = self._strip(found.type_id)
        return Member(offset, found.bits, found.type_id) if found else None

    def _member(self, type_id: int, name: str) -> Member | None:
        owner, at = self._at(type_id)
        kind, count, flag, _, _ = self._head(type_id)
        if kind not in (_STRUCT, _UNION):
            return None
        for i in range(count):
            name_off, child, where = struct.unpack_from("<III", owner._data, at + 12 + 12 * i)
            bits = where >> 24 if flag else 0
            offset = where & 0xFFFFFF if flag else where
            if name_off == 0 or self._string(name_off) == "":
                inner = self._member(self._strip(child), name)
                if inner:
                    return Member(offset + inner.bit_offset, inner.bits, inner.type_id)
            elif self._string(name_off) == name:
                return Member(offset, bits or 8 * self.size(child), child)
        return None

    def _strip(self, type_id: int) -> int:
        """Follow typedefs and qualifiers."""
        while type_id:
            kind, _, _, target, _ = self._head(type_id)
            if kind not in _MODIFIERS:
                break
            type_id = target
        return type_id

    def size(self, type_id: int) -> int:
        """Return the bytes a value of the type takes."""
        type_id = self._strip(type_id)
        kind, _, _, size, _ = self._head(type_id)
        if kind == _PTR:
            return _POINTER_BYTES
        if kind == _ARRAY:
            owner, at = self._at(type_id)
            element, _, count = struct.unpack_from("<III", owner._data, at + 12)
            return self.size(element) * int(count)
        return size

    def tracepoint_arguments(self, name: str) -> int | None:
        """Count the arguments of a tracepoint; None when the kernel has no such tracepoint.

        The kernel declares ``typedef void (*btf_trace_NAME)(void *, ARGS)`` for each of them.
        """
        typedef = self._find(f"btf_trace_{name}", (_TYPEDEF,))
        if typedef is None:
            return None
        kind, _, _, pointed, _ = self._head(self._strip(typedef))
        if kind != _PTR:
            return None
        kind, count, _, _, _ = self._head(self._strip(pointed))
        return count - 1 if kind == _FUNC_PROTO else None

    def enum(self, name: str) -> dict[str, int] | None:
        """Return the members of an enum in order; None when there is none of that name."""
        type_id = self._find(name, (_ENUM, _ENUM64))
        return None if type_id is None else dict(self._members(type_id))

    def _members(self, type_id: int) -> Iterator[tuple[str, int]]:
        owner, at = self._at(type_id)
        kind, count, signed, _, _ = self._head(type_id)
        for i in range(count):
            if kind == _ENUM:
                name, value = struct.unpack_from("<Ii" if signed else "<II", owner._data,
                                                 at + 12 + 8 * i)  # fmt: skip
            else:
                name, low, high = struct.unpack_from("<III", owner._data, at + 12 + 12 * i)
                value = high << 32 | low
                if signed and high >> 31:
                    value -= 1 << 64
            yield self._string(name), value

    def enums(self, suffix: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield (name, members) of this file's enums whose name ends with `suffix`."""
        for name_off, ids in self._named.items():
            name = self._string(name_off)
            if not name.endswith(suffix):
                continue
            for type_id in ids:
                if self._head(type_id)[0] in (_ENUM, _ENUM64):
                    yield name, dict(self._members(type_id))

    def enumerator(self, member: str) -> int | None:
        """Find the value of a member of an unnamed enum, such as LINUX_MIB_LISTENDROPS."""
        for type_id in self._named.get(0, ()):
            if self._head(type_id)[0] not in (_ENUM, _ENUM64):
                continue
            for name, value in self._members(type_id):
                if name == member:
                    return value
        return self._base.enumerator(member) if self._base else None
