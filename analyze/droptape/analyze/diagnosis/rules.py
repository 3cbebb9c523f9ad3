"""Reading rules: one Markdown file each (docs/DIAGNOSE.md says how to write one)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable

from droptape.analyze.errors import DroptapeError

from .text import Paragraph, TextError, paragraphs, placeholders

SECTIONS = ("Thresholds", "Query", "Title", "Evidence", "Look", "Meaning", "Remedy", "Proof")
"""In this order; all but the first must be there."""

_HEADERS = ("needs", "helps", "covers", "healthy")
_THRESHOLD = re.compile(r"- ([a-z][a-z0-9_]*) = ([0-9.]+): (\S.*)")
_PARAMETER = re.compile(r"\$([a-z_][a-z0-9_]*)")
_FENCE = re.compile(r"\A```sql\n(.*)\n```\Z", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")


class RuleError(DroptapeError):
    """A rule's file is not well formed; the text names the file and says what to change."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides, and why it is that number."""

    name: str
    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: the name of its file.
        title: what it looks for.
        needs: tables without which it says nothing; ``drops.reason``: that column with values.
        helps: tables that are taken to be empty where the recording has none.
        covers: drop reasons that it explains, or "REASON in FUNCTION".
        healthy: what holds when it finds nothing.
        thresholds: the parameters of its query.
        query: a SELECT with a row for each finding.
        headline: the title of a finding.
        evidence: sentences with numbers.
        look: SQL that shows the rows behind a finding.
        meaning: what it means.
        remedy: what to do, with commands.
        proof: what would prove it fixed.
        own: whether it comes with droptape; the SQL of others is checked as a user's is.
    """

    id: str
    title: str
    needs: tuple[str, ...]
    helps: tuple[str, ...]
    covers: tuple[str, ...]
    healthy: str
    thresholds: tuple[Threshold, ...]
    query: str
    headline: tuple[Paragraph, ...]
    evidence: tuple[Paragraph, ...]
    look: str
    meaning: tuple[Paragraph, ...]
    remedy: tuple[Paragraph, ...]
    proof: tuple[Paragraph, ...]
    own: bool = False

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it needs."""
        return tuple(dict.fromkeys(need.partition(".")[0] for need in self.needs))

    @property
    def parameters(self) -> dict[str, float]:
        """The thresholds by name, whole ones as integers."""
        return {t.name: int(t.value) if t.value == int(t.value) else t.value
                for t in self.thresholds}  # fmt: skip

    def names(self) -> Iterator[str]:
        """Yield the columns that its texts use."""
        for part in (self.headline, self.evidence, self.meaning, self.remedy, self.proof):
            for paragraph in part:
                yield from paragraph.names()
        yield from placeholders(self.look)


def load_rules(folders: Iterable[Traversable] = ()) -> list[Rule]:
    """Read the rules that come with droptape, and those in `folders`.

    A rule in a folder takes the place of one of the same name.

    Raises:
        RuleError: a file is not well formed.
    """
    own = files("droptape.analyze") / "rules"
    found: dict[str, Rule] = {}
    for folder in (own, *folders):
        if not folder.is_dir():
            raise RuleError(f"{folder} is not a folder of rules")
        for file in sorted(folder.iterdir(), key=lambda item: item.name):
            if file.name.endswith(".md"):
                rule = parse_rule(file.name.removesuffix(".md"), file.read_text("utf-8"))
                found[rule.id] = replace(rule, own=folder is own)
    return [found[name] for name in sorted(found)]


def parse_rule(name: str, text: str) -> Rule:
    """Read one rule.

    Raises:
        RuleError: the text is not well formed.
    """
    try:
        return _parse(name, text)
    except TextError as exc:
        raise RuleError(f"rule {name}: {exc}") from exc


def _parse(name: str, text: str) -> Rule:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise TextError("a rule's name has small letters, digits and _ only")
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    title, headers = _head(head)
    sections = _sections(parts)
    query, look = _sql(sections["Query"], "Query"), _sql(sections["Look"], "Look")
    thresholds = tuple(_thresholds(sections.get("Thresholds", "")))
    used = set(_PARAMETER.findall(_COMMENT.sub("", query)))
    declared = {threshold.name for threshold in thresholds}
    for missing in sorted(used - declared):
        raise TextError(f"the query uses ${missing}, which is no threshold")
    for idle in sorted(declared - used):
        raise TextError(f"the threshold {idle} is not used: the query has no ${idle}")
    list(placeholders(look))
    texts = {
        section: tuple(paragraphs(sections[section].splitlines()))
        for section in ("Title", "Evidence", "Meaning", "Remedy", "Proof")
    }
    for section, found in texts.items():
        if section not in ("Remedy", "Proof") and any(paragraph.commands for paragraph in found):
            raise TextError(f"only Remedy and Proof have commands, {section} has not")
    return Rule(
        id=name, title=title, needs=_list(headers["needs"]), helps=_list(headers["helps"]),
        covers=_list(headers["covers"]), healthy=headers["healthy"], thresholds=thresholds,
        query=query, headline=texts["Title"], evidence=texts["Evidence"], look=look,
        meaning=texts["Meaning"], remedy=texts["Remedy"], proof=texts["Proof"],
    )  # fmt: skip


def _head(text: str) -> tuple[str, dict[str, str]]:
    first, *rest = text.strip().splitlines() or [""]
    if not first.startswith("# "):
        raise TextError("the first line has to be '# ' and what the rule looks for")
    headers = dict.fromkeys(_HEADERS, "")
    for line in filter(str.strip, rest):
        key, colon, value = line.partition(": ")
        if not colon or key not in headers:
            raise TextError(f"{line!r} is none of {', '.join(f'{h}: …' for h in _HEADERS)}")
        headers[key] = value.strip()
    for key in ("needs", "healthy"):
        if not headers[key]:
            raise TextError(f"there is no line '{key}: …'")
    return first[2:].strip(), headers


def _sections(parts: list[str]) -> dict[str, str]:
    sections: dict[str, str] = {}
    for part in parts:
        section, _, body = part.partition("\n")
        if section not in SECTIONS or section in sections:
            raise TextError(f"'## {section}' is not a section, or comes twice")
        sections[section] = body.strip("\n")
    for section in SECTIONS[1:]:
        if not sections.get(section, "").strip():
            raise TextError(f"the section '## {section}' is missing or empty")
    return sections


def _sql(body: str, section: str) -> str:
    found = _FENCE.match(body.strip())
    if not found:
        raise TextError(f"'## {section}' has to be one block of ```sql")
    return found[1]


def _thresholds(body: str) -> Iterator[Threshold]:
    for line in " ".join(body.split()).replace(" - ", "\n- ").splitlines():
        found = _THRESHOLD.fullmatch(line.strip())
        if not found:
            raise TextError(f"a threshold is '- name = number: reason', not {line!r}")
        yield Threshold(found[1], float(found[2]), found[3])


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
