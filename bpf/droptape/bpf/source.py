"""The C of all programs, as the compiler gets it: our sources and what they need to know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from droptape.format.tables import LISTENERS, LOSS_CAUSE

from . import codegen, kernel, sizes, syscall
from .btf import Btf
from .compiled import ADDRESS
from .compiler import CAST_CALL
from .kind import EventKind

ROOT = Path(__file__).parent
COMPILERS = min(2, len(os.sched_getaffinity(0)))
"""A third would repeat more (what sources include, and the compiler's own start) than it saves."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to compile.

    Attributes:
        texts: the joined C source, in parts that can be compiled at the same time. They are the
            same in every boot of a kernel.
        addresses: kernel addresses of this boot, in the order of their places (`Compiled`).
    """

    texts: tuple[str, ...]
    addresses: tuple[int, ...]


def source_for(
    kinds: Sequence[EventKind],
    btf: Btf,
    cast_type: int,
    *,
    record_benign: bool,
    track_io: bool = False,
    max_rate: int = 0,
) -> Source:
    """Return the source of `kinds` on the running kernel.

    Args:
        kinds: the event kinds.
        btf: the kernel's types.
        cast_type: BTF id of the struct that bpf_rdonly_cast casts to; 0 where it cannot be used.
        record_benign: as for `client.load`, like the others.
        track_io: as there.
        max_rate: as there.
    """
    core = ("track.c", "track_io.c") if track_io else ("track.c",)
    parts = _parts([*(ROOT / "core" / name for name in core), *(kind.source for kind in kinds)])
    texts = [codegen.join_sources(part, ROOT) for part in parts]
    joined = "\n".join(texts)
    symbols = kernel.Symbols()
    names = sorted(codegen.function_names(joined))
    functions = symbols.functions(names)
    cpus = kernel.possible_cpus()
    constants = {
        "CPUS": cpus,
        "JIFFY_US": kernel.jiffy_us(),
        "RECORD_BENIGN": int(record_benign),
        "MAX_RATE": max_rate,
        "TOTALS_ENTRIES": sizes.TOTALS_ENTRIES,
        "OWNER_ENTRIES": sizes.OWNER_ENTRIES,
        "PORT_ENTRIES": sizes.PORT_ENTRIES,
        "FLOW_BITS": sizes.FLOW_BITS,
        "HOLDER_ENTRIES": sizes.HOLDER_ENTRIES,
        "LISTENER_ENTRIES": sizes.LISTENER_ENTRIES,
        "LISTENER_SLOTS": sizes.LISTENER_SLOTS,
        "CONNECTION_ENTRIES": sizes.CONNECTION_ENTRIES,
        "REFUSAL_ENTRIES": sizes.refusal_entries(cpus),
        "CAN_CAST": int(bool(cast_type)),
        "CAST_CALL": CAST_CALL,
        "CAST_TYPE": cast_type,
        "CAN_EXCHANGE": int(syscall.can_exchange()),
        "LOST_CAUSES": len(LOSS_CAUSE.values),
        **{f"LOST_{cause.upper()}": number for number, cause in LOSS_CAUSE.values.items()},
    }
    addresses = {"__per_cpu_offset": symbols.address("__per_cpu_offset")}
    addresses |= {name: functions.get(name, (0, 0))[0] for name in names}
    page = os.sysconf("SC_PAGE_SIZE")
    facts = "".join(
        (
            *(f"#define {name} {value}\n" for name, value in constants.items()),
            f"#define BOOT_ADDRESS {ADDRESS:#x}ULL\n",
            f"#define HAS_PER_CPU_OFFSETS {int(addresses['__per_cpu_offset'] != 0)}\n",
            *(f"#define SYMBOL_PLACE_{name} {place}\n" for place, name in enumerate(addresses)),
            codegen.kernel_facts(joined, btf, functions),
            codegen.c_row(LISTENERS),
            codegen.declarations(
                [k.table for k in kinds], {k.table.name: k.ring_bytes // page for k in kinds}
            ),
        )
    )
    return Source(tuple(facts + text for text in texts), tuple(addresses.values()))


def _parts(paths: Sequence[Path]) -> list[list[Path]]:
    """Divide the sources among `COMPILERS`, about evenly."""
    parts: list[list[Path]] = [[] for _ in range(COMPILERS)]
    sizes = [0] * COMPILERS
    for path in sorted(paths, key=lambda path: (-path.stat().st_size, path)):
        least = sizes.index(min(sizes))
        parts[least].append(path)
        sizes[least] += path.stat().st_size
    return [part for part in parts if part]
