"""Everything `droptape verify` checks, as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import duckdb

from . import books, files, rules
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording
    from droptape.analyze.source import Source

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
    found = _files(rec.sources, rec.origin)
    try:
        found += books.against_totals(rec)
        found += books.against_counters(rec)
    except duckdb.Error:
        if not any(finding.verdict is Verdict.UNEXPLAINED for finding in found):
            raise
        found += _not_compared(rec.sources)
    return Verification(found)


def files_only(sources: Sequence[Source]) -> Verification:
    """Check the files of recordings that are too damaged to be opened."""
    return Verification([*_files(sources, files), *_not_compared(sources)])


class _Checks(Protocol):
    def damage(self, source: Source) -> Iterator[tuple[str, str, str]]: ...

    def checked(self, source: Source) -> int: ...


def _files(sources: Sequence[Source], checks: _Checks) -> list[Finding]:
    found: list[Finding] = []
    for source in sources:
        bad = list(checks.damage(source))
        found += [
            Finding(
                source.name, "files", file, verdict=Verdict.UNEXPLAINED,
                why=": ".join(filter(None, (rules.FILES[what], detail))),
            )
            for file, what, detail in bad
        ]  # fmt: skip
        whole = checks.checked(source) - sum(what != "missing" for _, what, _ in bad)
        found.append(Finding(source.name, "files", f"{whole} whole files"))
    return found


def _not_compared(sources: Sequence[Source]) -> list[Finding]:
    return [
        Finding(source.name, "counters", "all", verdict=Verdict.NOT_CHECKED, why=rules.DAMAGED)
        for source in sources
    ]
