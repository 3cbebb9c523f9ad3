"""How often an answer to "whose socket was it?" is right, wrong or missing."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from droptape.analyze import open_recording
from lab.workload.truth import NOBODY, Flow, Owner, Truth

# What each table adds to the name of its rows, and where the socket's own end is.
_LABELS = {
    "retransmits": ("CASE kind WHEN 'SYNACK' THEN 'retransmit SYNACK' ELSE 'retransmit' END", "s"),
    "resets": ("'reset ' || direction", "CASE direction WHEN 'sent' THEN 's' ELSE 'd' END"),
    "listen": ("'listen ' || event", "d"),
    "drops": ("'drop ' || coalesce(reason, 'unknown')", "?"),
}  # fmt: skip
_IDLE = ("ksoftirqd", "swapper", "kworker", "rcu_", "napi/")


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded event, with every answer and who may be named."""

    label: str
    role: str
    expected: frozenset[Owner]
    owner: Owner | None
    source: str
    shared: bool
    context: Owner | None
    mono_ns: int
    flow: Flow
    state: str
    container: str

    @property
    def verdict(self) -> str:
        """What is to be said of droptape's answer."""
        return verdict(self.owner, self.expected)


def verdict(answer: Owner | None, expected: frozenset[Owner]) -> str:
    """Return `right`, `wrong` or `unknown`; that nobody owns it is an answer too."""
    if answer is None:
        return "unknown" if expected and NOBODY not in expected else "right"
    return "right" if answer in expected else "wrong"


@dataclass(slots=True)
class Score:
    """Verdicts by label."""

    name: str
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, label: str, answer: Owner | None, expected: frozenset[Owner]) -> None:
        """Judge one answer."""
        self.counts[label][verdict(answer, expected)] += 1

    @property
    def total(self) -> Counter[str]:
        """All labels together."""
        return sum(self.counts.values(), Counter())

    def share(self, what: str, label: str | None = None) -> float:
        """Return the share of a verdict, from 0 to 1, of one label or of all."""
        counts = self.total if label is None else self.counts[label]
        return counts[what] / max(counts.total(), 1)

    def cell(self, label: str | None = None) -> str:
        """Write the shares of right, wrong and unknown in percent."""
        shares = (100 * self.share(what, label) for what in ("right", "wrong", "unknown"))
        return "/".join(f"{share:.{0 if share in (0, 100) else 1}f}" for share in shares)


def events(folder: Path, truth: Truth) -> Iterator[Event]:
    """Yield every event of a recording in the namespaces that the truth speaks for."""
    spaces = ", ".join(map(str, truth.spaces))
    with open_recording(folder) as recording:
        for table, (label, end) in _LABELS.items():
            if table not in recording.tables:
                continue
            side = end if end.startswith("CASE") else f"'{end}'"
            rows = recording.sql(
                f"""SELECT {label}, {side}, netns, protocol, saddr, sport, daddr, dport, mono_ns,
                           owner_pid, owner_comm, owner_source, owner_shared, context_pid,
                           context_comm, state, container
                    FROM {table} WHERE netns IN ({spaces}) AND protocol IN ('TCP', 'UDP')"""
            ).fetchall()
            yield from (_event(truth, *row) for row in rows)


def _event(
    truth: Truth, label: str, side: str, netns: int, protocol: str, saddr: str, sport: int,
    daddr: str, dport: int, mono_ns: int, owner_pid: int | None, owner_comm: str, source: str,
    shared: bool, context_pid: int | None, context_comm: str, state: str | None,
    container: str | None,
) -> Event:  # fmt: skip
    one, other = (saddr, sport), (daddr, dport)
    local, remote = (one, other) if side == "s" else (other, one)
    flow = (netns, protocol, *local, *remote)
    if side == "?":
        expected, role = truth.of_packet(netns, protocol, one, other, mono_ns)
    else:
        expected, role = truth.expected(flow, mono_ns)
    idle = not context_pid or context_comm.startswith(_IDLE)
    return Event(
        label,
        role,
        expected,
        Owner(owner_pid, owner_comm) if owner_pid else None,
        source,
        shared,
        None if idle else Owner(int(context_pid or 0), context_comm),
        mono_ns,
        flow,
        state or "",
        container or "",
    )


def scores(found: Iterable[Event]) -> tuple[Score, Score]:
    """Judge droptape and the task that happened to run."""
    ours, naive = Score("droptape"), Score("current task")
    for event in found:
        ours.add(event.label, event.owner, event.expected)
        naive.add(event.label, event.context, event.expected)
    return ours, naive


_TCPRETRANS = re.compile(
    r"^(?P<time>\d\d:\d\d:\d\d) (?P<pid>\d+) +[46] +(?P<local>[0-9a-f.:]+):(?P<lport>\d+) +R> +"
    r"(?P<remote>[0-9a-f.:]+):(?P<rport>\d+) +(?P<state>\S+)"
)


def score_tcpretrans(lines: Iterable[str], truth: Truth, spaces: dict[str, int]) -> Score:
    """Judge what bcc's tcpretrans printed.

    Args:
        lines: Its output. It tells whole seconds of local time and no names.
        truth: Who owns what.
        spaces: The namespace of each local address: it does not tell that either.
    """
    score = Score("bcc tcpretrans")
    offset = time.time_ns() - time.monotonic_ns()
    today = datetime.now().astimezone().replace(microsecond=0)
    for match in filter(None, map(_TCPRETRANS.match, lines)):
        local = match["local"].removeprefix("::ffff:")
        if local not in spaces:
            continue
        hour, minute, second = map(int, match["time"].split(":"))
        start = int(today.replace(hour=hour, minute=minute, second=second).timestamp()) * 10**9
        flow = (
            spaces[local], "TCP", local, int(match["lport"]),
            match["remote"].removeprefix("::ffff:"), int(match["rport"]),
        )  # fmt: skip
        expected, _ = truth.expected(flow, start - offset, start - offset + 10**9)
        pid = int(match["pid"])
        same = next((owner for owner in expected if owner.pid == pid), Owner(pid, ""))
        score.add("retransmit", same if pid else None, expected)
    return score
