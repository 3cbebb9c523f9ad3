"""`--check`: what this kernel and these privileges allow, probe by probe."""

from __future__ import annotations

import platform
import re
from itertools import islice
from pathlib import Path
from typing import TextIO

from droptape.bpf import client
from droptape.bpf.btf import VMLINUX
from droptape.bpf.kinds import all_kinds
from droptape.format.errors import DroptapeError

from . import privilege
from .options import MAX_RATE

_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_KALLSYMS = Path("/proc/kallsyms")


def _lockdown() -> str:
    try:
        match = re.search(r"\[(\w+)\]", _LOCKDOWN.read_text())
    except OSError:
        return "unknown (securityfs is not mounted)"
    return match[1] if match else "unknown"


def _symbols_visible() -> bool:
    try:
        with _KALLSYMS.open("rb") as symbols:
            return any(int(line.split()[0], 16) for line in islice(symbols, 100))
    except (OSError, ValueError, IndexError):
        return False  # something else is mounted there


def check(out: TextIO, btf: Path | None = None) -> bool:
    """Print what works, and why the rest does not; return whether everything does.

    Args:
        out: where to.
        btf: the kernel's BTF, if not its own.

    Raises:
        UsageError: /proc is not there.
    """
    good = True

    def line(ok: bool, what: str, text: str) -> None:
        nonlocal good
        good = good and ok
        print(f"{'yes' if ok else 'NO ':3}  {what:36} {text}".rstrip(), file=out)

    print(f"kernel {platform.release()}, {platform.machine()}, lockdown {_lockdown()}", file=out)
    have, advice = privilege.effective(), privilege.advice()
    for need in privilege.NEEDS:
        serves, lacks = need.served_by(have), need.lacking(have)
        text = need.purpose
        if lacks:
            text += f": lacks {', '.join(lacks)}, {advice}"
        elif serves != need.names:
            text += f", in place of {' and '.join(need.names)}"
        line(not lacks, " and ".join(serves or need.names), text)
    missing = privilege.missing()
    types = btf or VMLINUX
    line(
        types.exists(),
        "BTF",
        str(types)
        if types.exists()
        else f"no {types}: build the kernel with CONFIG_DEBUG_INFO_BTF, or give a file with --btf",
    )
    visible = _symbols_visible()
    line(
        visible,
        "kernel symbols",
        "/proc/kallsyms" if visible else "no addresses to see: needs root and kptr_restrict < 2",
    )
    if missing:
        print("the probes were not tried", file=out)
        return False
    try:
        # With all that can be asked for: the largest programs there are.
        loaded = client.load(
            list(all_kinds()), record_benign=True, track_io=True, max_rate=MAX_RATE, btf=btf
        )
    except DroptapeError as exc:
        line(False, "loading the programs", str(exc))
        return False
    try:
        for probe in loaded.probes:
            text = probe.mechanism if probe.attached else probe.note
            if probe.attached and probe.note:
                text += f" ({probe.note})"
            line(probe.attached, probe.name, text)
        named = {reason.enum for reason in loaded.reasons}
        line("skb_drop_reason" in named, "drop reasons", _count(loaded, "skb_drop_reason"))
        line("sk_rst_reason" in named, "reset reasons", _count(loaded, "sk_rst_reason"))
    finally:
        loaded.close()
    return good


def _count(loaded: client.Loaded, enum: str) -> str:
    count = sum(reason.enum == enum for reason in loaded.reasons)
    return f"{count} names from BTF" if count else "this kernel gives none: rows have no reason"
