"""Everything `droptape verify` checks, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import books, files, rules
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from ..recording import Recording

__all__ = ["Finding", "Verdict", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        findings: every comparison; files that are whole are one finding for each recording.
    """

    findings: list[Finding]

    @property
    def unexplained(self) -> list[Finding]:
        """Damaged files, and differences without a reason."""
        return [f for f in self.findings if f.verdict is Verdict.UNEXPLAINED]

    @property
    def balanced(self) -> bool:
        """Whether all files are whole and every difference has a reason."""
        return not self.unexplained


def verify(rec: Recording) -> Verification:
    """See `Recording.verify`."""
    found: list[Finding] = []
    for source in rec.sources:
        bad = list(files.damage(source))
        found += [
            Finding(
                source.name, "files", file, verdict=Verdict.UNEXPLAINED,
                why=": ".join(filter(None, (rules.FILES[what], detail))),
            )
            for file, what, detail in bad
        ]  # fmt: skip
        whole = files.checked(source) - sum(what != "missing" for _, what, _ in bad)
        found.append(Finding(source.name, "files", f"{whole} files", recorded=None))
    found += books.against_totals(rec)
    found += books.against_counters(rec)
    return Verification(found)
