"""What the kernel makes of the programs."""

from __future__ import annotations

from droptape.bpf import client, syscall
from droptape.bpf.kinds import all_kinds

MOST = 120_000
"""Instructions that the verifier of a 6.18 may follow. Those of 6.1 and older forget less: what
takes 120,000 here they still took, what took 230,000 they refused (their limit is a million)."""


def test_older_verifiers_can_follow() -> None:
    loaded = client.load(list(all_kinds()), record_benign=True, max_rate=10_000)
    try:
        programs = {
            name: syscall.program_info(fd).verified
            for name, fd in loaded.fds.items()
            if name.startswith("runs:")
        }
    finally:
        loaded.close()
    assert {"runs:drops/drops_kfree_skb", "runs:retransmits/retransmits_skb"} <= set(programs)
    assert {name: n for name, n in programs.items() if n > MOST} == {}
    # On kernels that do not tell, nothing is checked.
    assert all(programs.values()) or not any(programs.values())
