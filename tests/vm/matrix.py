"""The kernel tests under several kernels, and the table of what works on each."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm import boot
from vm.fetch import Kernel, fetch

ALL = ("tests/kernel",)
EACH = (
    "tests/kernel/test_drops.py::test_closed_tcp_port[4]",
    "tests/kernel/test_drops.py::test_udp_receive_buffer_overflow[6]",
    "tests/kernel/test_drops.py::test_firewall_drops_and_fast_retransmits[4]",
    "tests/kernel/test_listen.py::test_syns_refused_by_a_full_accept_queue[1-4]",
    "tests/kernel/test_listen.py::test_final_acks_refused_by_a_full_accept_queue[1-0-6]",
    "tests/kernel/test_listen.py::test_final_acks_refused_by_a_full_accept_queue[2-1-4]",
    "tests/kernel/test_listen.py::test_syns_refused_by_a_full_syn_queue[6]",
    "tests/kernel/test_listen.py::test_floods_in_parallel_on_three_listeners",
    "tests/kernel/test_retransmits.py::test_syn[6]",
    "tests/kernel/test_retransmits.py::test_synack[4]",
    "tests/kernel/test_retransmits.py::test_tail_loss[2-kinds1-TcpExt.TCPTimeouts-4]",
    "tests/kernel/test_retransmits.py::test_resets_of_a_closed_port[4]",
    "tests/kernel/test_networks.py::test_a_tag_on_the_way_out",
    "tests/kernel/test_programs.py::test_no_verifier_is_near_its_limit[True-10000]",
    "tests/kernel/test_programs.py::test_no_verifier_is_near_its_limit[False-0]",
)
"""One test of each mechanism."""

_COLUMNS = (
    ("drops", "drops/kfree_skb"),
    ("refused SYN", "listen/syn"),
    ("refused final ACK", "listen/final_ack"),
    ("retransmits", "retransmits/tcp_retransmit_skb"),
    ("resets", "resets/tcp_send_reset"),
    ("owners", "owners/scan"),
)


@dataclass(slots=True)
class Result:
    """How one kernel did.

    Attributes:
        release: its `uname -r`.
        facts: what `inside` wrote: probes, or a problem.
        passed: number of tests.
        failed: names of tests.
        skipped: how many tests, by reason.
        problem: why there is no result.
        seconds: from boot to end.
    """

    release: str
    facts: dict[str, Any] = field(default_factory=dict)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether tests ran, all that ran passed, and the programs loaded."""
        return bool(self.passed) and not (self.failed or self.problem or "problem" in self.facts)


def test(names: list[str], pytest_arguments: list[str], timeout: float) -> int:
    """Test each kernel; print the table; return 0 if all is well, else 1."""
    results = []
    for name, kernel in fetch(names, "x86_64"):
        print(f"\n== {name}: {kernel.release}", flush=True)
        results.append(_test(kernel, pytest_arguments, timeout))
        if results[-1].problem:  # the table has it too, but may be hours away
            print(results[-1].problem, flush=True)
    print("\n" + table(results))
    return 0 if all(result.good for result in results) else 1


def _test(kernel: Kernel, pytest_arguments: list[str], timeout: float) -> Result:
    result, start = Result(kernel.release), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        command = [sys.executable, "-m", "vm.inside", boot.EXCHANGE, *pytest_arguments]
        try:
            boot.run(kernel, command, Path(folder), timeout=timeout, output=boot.to_stdout)
        except boot.BootError as error:
            result.problem = str(error)
        read_facts(result, Path(folder, "facts.json"))
        read_tests(result, Path(folder, "tests.xml"))
    result.seconds = time.monotonic() - start
    return result


def read_facts(result: Result, path: Path) -> None:
    """Take over what `inside` found out."""
    if path.exists():
        result.facts = json.loads(path.read_text())


def read_tests(result: Result, path: Path) -> None:
    """Take over pytest's report (JUnit XML)."""
    if not path.exists():
        result.problem = result.problem or "the tests did not run"
        return
    for case in ET.parse(path).iter("testcase"):
        outcomes = {child.tag: child for child in case}
        if "failure" in outcomes or "error" in outcomes:
            result.failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in outcomes:
            result.skipped[outcomes["skipped"].get("message") or "no reason"] += 1
        else:
            result.passed += 1


def _cell(result: Result, probe_name: str) -> str:
    for probe in result.facts.get("probes", ()):
        if probe["name"] == probe_name:
            return probe["mechanism"] if probe["attached"] else f"**missing**: {probe['note']}"
    return "**missing**"


def table(results: list[Result]) -> str:
    """Return the support table in Markdown, and below it what each kernel lacks."""
    head = ["kernel", *(title for title, _ in _COLUMNS), "drop reasons", "tests"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    below: list[str] = []
    for result in results:
        tests = f"{result.passed} passed"
        if result.failed:
            tests += f", {len(result.failed)} **failed**"
        if result.skipped:
            tests += f", {result.skipped.total()} skipped"
        cells = [_cell(result, name) for _, name in _COLUMNS]
        cells += [
            str(result.facts.get("reasons", 0) or "none"),
            f"{tests} in {result.seconds:.0f} s",
        ]
        lines.append(f"| {result.release} | {' | '.join(cells)} |")
        below += _remarks(result)
    return "\n".join([*lines, "", *below])


def _remarks(result: Result) -> list[str]:
    lines = [
        f"lacks ({p['name']}): {p['note']}" for p in result.facts.get("probes", ()) if p["note"]
    ]
    lines += [f"skipped {count}: {reason}" for reason, count in result.skipped.items()]
    lines += [f"FAILED {name}" for name in result.failed]
    for problem in (result.problem, result.facts.get("problem")):
        if problem:
            lines.append(f"PROBLEM: {problem}")
    return [f"- {result.release}: {line}" for line in lines]
