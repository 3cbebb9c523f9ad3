"""Names of the kernel's drop and reset reasons, from its BTF: numbers differ between kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .btf import VMLINUX, Btf, BtfError

_SUBSYSTEM_SHIFT = 16  # SKB_DROP_REASON_SUBSYS_SHIFT, since Linux 6.4 (071c0fc6fb91)
_PREFIXES = {"skb_drop_reason": "SKB_DROP_REASON_", "sk_rst_reason": "SK_RST_REASON_"}


class Reason(NamedTuple):
    """One member of a reason enum; `enum` is the one its column declares."""

    enum: str
    value: int
    name: str
    subsystem: str


def reasons(btf: Btf, modules: Path = VMLINUX.parent) -> list[Reason]:
    """List the reasons of the kernel and of its loaded modules."""
    found: list[Reason] = []
    for enum, prefix in _PREFIXES.items():
        for name, value in (btf.enum(enum) or {}).items():
            if not name.endswith(("_MAX", "_SUBSYS_MASK")):
                short = name.removeprefix(prefix).removeprefix("SKB_")
                found.append(Reason(enum, value, short, "core"))
    subsystems = {
        value: name.removeprefix("SKB_DROP_REASON_SUBSYS_").lower()
        for name, value in (btf.enum("skb_drop_reason_subsys") or {}).items()
    }
    for name, value in _subsystem_members(btf, modules):
        subsystem = subsystems.get(value >> _SUBSYSTEM_SHIFT)
        if value >> _SUBSYSTEM_SHIFT and subsystem:
            found.append(Reason("skb_drop_reason", value, name.lstrip("_"), subsystem))
    return found


def _subsystem_members(btf: Btf, modules: Path) -> Iterator[tuple[str, int]]:
    """Yield members of enums called ``*_drop_reason`` in the kernel and its modules."""
    files = [btf]
    if modules.is_dir():
        for path in sorted(modules.iterdir()):
            if path.name == VMLINUX.name:
                continue
            try:
                # A module's BTF is small unless it is split from another base.
                files.append(Btf.load(path, btf))
            except (BtfError, UnicodeDecodeError):
                continue
    for file in files:
        for name, members in file.enums("_drop_reason"):
            if name != "skb_drop_reason":
                yield from members.items()
