"""Everything `droptape verify` checks, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import duckdb

from droptape.analyze import rollups
from droptape.format.layout import MANIFEST, sequence_of

from . import books, files, rules
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording
    from droptape.analyze.source import Problem, Source

__all__ = ["Finding", "Verdict", "Verification", "verify"]

_NOT_COUNTED = ("missing", "stray", "closed")
"""What is wrong with files that are not among those looked at."""


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
    found = _files(rec.sources, rec.origin, rec.origin.unread())
    try:
        found += _counts(rec)
        found += books.against_totals(rec)
        found += books.against_counters(rec)
    except duckdb.Error:
        if not any(finding.verdict is Verdict.UNEXPLAINED for finding in found):
            raise
        found += _not_compared(rec.sources)
    return Verification(found)


def _counts(rec: Recording) -> Iterator[Finding]:
    for recording, different in rollups.differences(rec):
        yield Finding(
            recording, "files", "counts in footers", verdict=Verdict.UNEXPLAINED,
            why=rules.COUNTS.format(different=f"{different:,}"),
        )  # fmt: skip


def files_only(sources: Sequence[Source]) -> Verification:
    """Check the files of recordings that are too damaged to be opened."""
    problems = [problem for source in sources for problem in source.problems]
    return Verification([*_files(sources, files, problems), *_not_compared(sources)])


class _Checks(Protocol):
    def damage(self, source: Source) -> Iterator[tuple[str, str, str]]: ...

    def checked(self, source: Source) -> int: ...


def _files(
    sources: Sequence[Source], checks: _Checks, problems: Iterable[Problem]
) -> list[Finding]:
    found: list[Finding] = []
    rest = list(problems)
    for source in sources:
        bad = list(checks.damage(source))
        named = {file for file, _, _ in bad}
        told = {_subject(source, p): p for p in rest if source.file(p)}
        rest = [p for p in rest if not source.file(p)]
        more = [_unread(source.name, f, p) for f, p in told.items() if f not in named]
        found += [
            Finding(
                source.name, "files", _readable(file), verdict=Verdict.UNEXPLAINED,
                why=": ".join(filter(None, (rules.FILES[what], detail))),
            )
            for file, what, detail in bad
        ]  # fmt: skip
        found += more
        counted = [file for file, what, _ in bad if what not in _NOT_COUNTED]
        counted += [f.subject for f in more if sequence_of(f.subject) and "not there" not in f.why]
        whole = max(checks.checked(source) - len(counted), 0)
        found.append(Finding(source.name, "files", f"{whole} whole files"))
    return found + [_unread(p.path.name.removesuffix(".json"), str(p.path), p) for p in rest]


def _subject(source: Source, problem: Problem) -> str:
    """Return the file that a problem is about; of the whole recording that is its manifest."""
    name = source.file(problem)
    return MANIFEST if name == "." else name


def _unread(recording: str, subject: str, problem: Problem) -> Finding:
    why = _readable(problem.text)
    return Finding(recording, "files", _readable(subject), verdict=Verdict.UNEXPLAINED, why=why)


def _readable(name: str) -> str:
    """Return a name with what is no UTF-8 as an escape: an answer could not be written with it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _not_compared(sources: Sequence[Source]) -> list[Finding]:
    return [
        Finding(source.name, "counters", "all", verdict=Verdict.NOT_CHECKED, why=rules.DAMAGED)
        for source in sources
    ]
