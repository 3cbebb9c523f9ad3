"""The kernel's own network counters, per network namespace.

`/proc/<pid>/net` shows the namespace of that process (proc(5)), so counters of
any namespace are read without entering it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Counters = dict[str, int]


def parse_pairs(text: str) -> Counters:
    """Parse netstat and snmp: a line of names and a line of values for each group."""
    counters: Counters = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        group, *columns = names.split()
        for column, value in zip(columns, values.split()[1:], strict=True):
            counters[f"{group.rstrip(':')}.{column}"] = int(value)
    return counters


def parse_snmp6(text: str) -> Counters:
    """Parse snmp6: `Udp6NoPorts 3` becomes `{"Udp6.NoPorts": 3}`."""
    counters: Counters = {}
    for line in text.splitlines():
        name, value = line.split()
        group, _, rest = name.partition("6")
        counters[f"{group}6.{rest}"] = int(value)
    return counters


def read_counters(pid: int) -> Counters:
    """Return the counters of the namespace of process `pid`, as {"Tcp.RetransSegs": 12}.

    UDP counts its IPv4 traffic in `Udp`, its IPv6 traffic in `Udp6`; TCP counts
    both in `Tcp` and `TcpExt`.
    """
    net = Path(f"/proc/{pid}/net")
    counters = parse_pairs((net / "netstat").read_text()) | parse_pairs((net / "snmp").read_text())
    snmp6 = net / "snmp6"
    if snmp6.exists():  # Absent when the kernel runs without IPv6.
        counters |= parse_snmp6(snmp6.read_text())
    return counters


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> Counters:
    """Return how far each counter moved, without those that did not."""
    changes = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: change for name, change in changes.items() if change}
