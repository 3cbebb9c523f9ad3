"""Firewall rules that drop a known number of packets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from lab.net import Host

_TABLE = "inet droptape_lab"


@dataclass
class Firewall:
    """A rule in place.

    Attributes:
        host: Where it is.
        dropped: How many packets it dropped; known after the `with` block.
    """

    host: Host
    dropped: int = 0

    def count(self) -> int:
        """Return how many packets it dropped so far."""
        listing = json.loads(self.host.run(["nft", "-j", "list", "table", *_TABLE.split()]))
        for item in listing["nftables"]:
            for expression in item.get("rule", {}).get("expr", []):
                if "counter" in expression:
                    return int(expression["counter"]["packets"])
        return 0


@contextlib.contextmanager
def dropping(host: Host, match: str, *, hook: str = "input") -> Iterator[Firewall]:
    """Drop what matches, while the block runs, one rule at a time on each host.

    Args:
        host: Where the rule is put.
        match: The nftables match, as `tcp dport 80 numgen random mod 100 < 3`.
        hook: input, forward or output.
    """
    host.nft(
        f"table {_TABLE} {{\n"
        f"  chain lossy {{\n"
        f"    type filter hook {hook} priority 0\n"
        f"    {match} counter drop\n"
        f"  }}\n"
        f"}}\n"
    )
    firewall = Firewall(host)
    try:
        yield firewall
        firewall.dropped = firewall.count()
    finally:
        host.nft(f"delete table {_TABLE}")


def the_first(match: str, count: int = 1) -> str:
    """Return a match for only the first `count` packets that `match` matches."""
    # An incremental number generator starts at 0 and is asked only when all
    # before it in the rule matched.
    return f"{match} numgen inc mod 1000000 < {count}"


def percent(match: str, share: int) -> str:
    """Return a match for a random `share` percent of what `match` matches."""
    return f"{match} numgen random mod 100 < {share}"
