"""What a diagnosis is, as data; render/diagnosis.py lays it out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from droptape.analyze.info import Info

Severity = Literal["critical", "warning", "notice", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the most severe to the least."""

Status = Literal["found", "healthy", "partly", "not checked"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a sentence, and the commands for it, ready to run."""

    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or worth knowing.

    Attributes:
        id: the rule that found it.
        severity: critical: users are being turned away now; warning: something is lost that
            should not be; notice: worth knowing; info: for completeness.
        title: in one line.
        recording: short name of the recording.
        netns: number of the network namespace; None when it is the host's or of none.
        events: how many events it stands for.
        since_ns: the first of them, ns since 1970 (UTC); None when unknown.
        until_ns: the last of them.
        evidence: sentences with the numbers.
        query: SQL that shows the rows behind it.
        meaning: what it means, for people who know no kernel.
        remedy: what to do about it, in order.
        proof: what would prove it fixed.
        notes: what makes the numbers less certain.
        values: everything that the rule's query returned.
    """

    id: str
    severity: Severity
    title: str
    recording: str
    netns: int | None
    events: int
    since_ns: int | None
    until_ns: int | None
    evidence: tuple[str, ...]
    query: str
    meaning: str
    remedy: tuple[Step, ...]
    proof: Step
    notes: tuple[str, ...]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one rule in one recording.

    Attributes:
        id: the rule.
        title: what it looks for.
        recording: short name of the recording.
        status: ``partly``: nothing was found in what was recorded, which is not everything.
        healthy: what holds when it finds nothing.
        why: why it was checked partly or not at all.
    """

    id: str
    title: str
    recording: str
    status: Status
    healthy: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings, most severe first, and what else was checked.

    Attributes:
        info: the recordings.
        findings: most severe first, then most frequent.
        checks: one for each rule and recording.
    """

    info: Info
    findings: list[Finding]
    checks: list[Check] = field(default_factory=list)

    def at_least(self, severity: Severity) -> list[Finding]:
        """Return the findings of this severity and above."""
        allowed = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return [finding for finding in self.findings if finding.severity in allowed]

    def with_status(self, status: Status) -> list[Check]:
        """Return the checks that ended so."""
        return [check for check in self.checks if check.status == status]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "recordings": self.info.to_json()["recordings"],
            "findings": [asdict(finding) for finding in self.findings],
            "checks": [asdict(check) for check in self.checks],
            "problems": self.info.problems,
        }
