"""The sampling of rows in the kernel, on its own (core/totals.h)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from droptape.bpf import codegen, compiler, kernel, syscall
from droptape.bpf.btf import Btf
from droptape.bpf.compiled import Cache
from droptape.bpf.module import Module
from droptape.format.tables import LOSS_CAUSE

RUNS = 100
ROOT = Path(compiler.__file__).parent


def test_rows_that_stand_for_no_event_are_sampled_and_missed(tmp_path: Path) -> None:
    constants = {
        "CAN_CAST": 0, "BOOT_ADDRESS": 0, "CAN_EXCHANGE": int(syscall.can_exchange()),
        "MAX_RATE": 4, "TOTALS_ENTRIES": 16, "KIND_COUNT": 1,
        "LOST_CAUSES": len(LOSS_CAUSE.values),
        **{f"LOST_{cause.upper()}": number for number, cause in LOSS_CAUSE.values.items()},
    }  # fmt: skip
    source = f"""
    {codegen.join_sources([ROOT / "core" / "totals.h"], ROOT)}
    int program(struct bpf_raw_tracepoint_args *ctx)
    {{
        struct totals_key key = {{.cause = 3}};
    #pragma clang loop unroll(disable)
        for (__u32 i = 0; i < {RUNS}; i++) {{
            struct sample sample = sample_row(&key, 0, 0);
            if (sample.weight)
                sampled(&sample, 0, false);
        }}
        return 0;
    }}
    """
    facts = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    found = compiler.compiled([facts + source], 0, Cache(tmp_path / "cache", owner=os.geteuid()))
    module = Module(found, [], Btf.load())
    syscall.run_on_cpu(module.load("program", syscall.RAW_TRACEPOINT), 0)
    lost = {}
    for number, cause in LOSS_CAUSE.values.items():
        counts = np.zeros(kernel.possible_cpus(), "u8")
        syscall.map_lookup(module.map_fd("lost"), np.array([number], "u4"), counts)
        lost[cause] = int(counts.sum())
    assert lost["ring_full"] > 0
    assert lost["sampled"] > 0
    assert sum(lost.values()) == RUNS
