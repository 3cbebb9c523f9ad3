"""Every rule: what it finds, from which number on, and that it says so in readable words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import SEVERITIES, Finding, diagnose, load_rules
from droptape.analyze.diagnosis.document import document
from unit.analyze.rule_cases import CASES, NETNS, Case, make_recording

RULES = {rule.id: rule for rule in load_rules()}


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{c.rule}" for n, c in enumerate(CASES)])
def test_severity(tmp_path: Path, case: Case) -> None:
    """Each number is a recording of its own; that they are told apart is part of the test."""
    paths = [make_recording(tmp_path / f"n{n}", case.make(n)) for n, _ in case.answers]
    # Only the last rule looks at what the others explain.
    rules = RULES.values() if case.rule == "other_drops" else [RULES[case.rule]]
    with open_recording(*paths) as rec:
        diagnosis = diagnose(rec, rules)
        severities = {f.recording: f.severity for f in diagnosis.findings if f.id == case.rule}
        assert severities == {f"n{n}": severity for n, severity in case.answers if severity}
        statuses = {c.recording: c.status for c in diagnosis.checks if c.id == case.rule}
        assert statuses == {f"n{n}": "found" if s else "healthy" for n, s in case.answers}
        for finding in diagnosis.findings:
            _is_complete(finding)
            assert rec.sql(finding.query).fetchall()


def _is_complete(finding: Finding) -> None:
    assert finding.netns in (NETNS, None)
    assert finding.title
    assert finding.evidence
    assert finding.meaning.endswith(".")
    assert finding.remedy
    assert finding.proof.text
    texts = [finding.title, finding.meaning, *finding.evidence, finding.proof.text]
    for text in (*texts, *(step.text for step in finding.remedy)):
        assert not re.search(r"[{}]|\bNone\b|  ", text), text
    for command in (c for step in (*finding.remedy, finding.proof) for c in step.commands):
        assert shlex.split(command), command


def test_the_document_is_current() -> None:
    written = Path(__file__).parents[3] / "docs" / "DIAGNOSE.md"
    assert written.read_text() == document(), "run make docs"


def test_every_rule_has_a_case_above_and_below() -> None:
    found = {case.rule for case in CASES if any(s for _, s in case.answers)}
    quiet = {case.rule for case in CASES if any(s is None for _, s in case.answers)}
    assert found == quiet == RULES.keys()


def test_every_threshold_is_held_by_a_case() -> None:
    """A number that decides has to be seen to decide: the answer changes there."""
    for rule in RULES.values():
        severities = {s for case in CASES if case.rule == rule.id for _, s in case.answers if s}
        said = {s for s in SEVERITIES if f"'{s}'" in rule.query}
        assert severities == said, rule.id


@pytest.mark.parametrize("rule", RULES)
def test_texts_are_for_people(rule: str) -> None:
    one = RULES[rule]
    for words in (one.title, one.healthy, *(t.reason for t in one.thresholds)):
        assert words
        assert len(words) < 160
    sentences = re.split(r"(?<=[.:])\s", " ".join(p.text for p in one.meaning if not p.condition))
    assert len(sentences) <= 4
    assert one.healthy.endswith(".")


def test_no_recording_without_trouble_has_a_finding(tmp_path: Path) -> None:
    with open_recording(make_recording(tmp_path / "r", {"connections": []})) as rec:
        diagnosis = rec.diagnose()
    assert diagnosis.findings == []
    assert {check.status for check in diagnosis.checks} == {"healthy"}
    assert {check.id for check in diagnosis.checks} == RULES.keys()
