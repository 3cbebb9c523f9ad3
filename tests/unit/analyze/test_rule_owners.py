"""A finding names a process that exists, and says when it is not the only one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import Finding, diagnose, load_rules
from unit.analyze.rule_cases import CASES, OWNER, Case, Row, Tables, make_recording

RULES = {rule.id: rule for rule in load_rules()}
OTHER: Row = {"owner_pid": 77, "owner_comm": "zoo-keeper"}
WHO = {(one["owner_comm"], one["owner_pid"]) for one in (OWNER, OTHER)}
COUNTED = {
    "accept_queue", "connects_refused", "handshakes_unfinished", "socket_backlog", "syn_queue",
    "syn_unanswered", "tcp_receive_buffer", "udp_receive_buffer",
}  # fmt: skip
"""Rules that have how many processes in their titles."""


def _of_two(tables: Tables) -> Tables:
    """Return the events twice: once for each process, one a little later than the other."""
    two: dict[str, list[Row]] = {}
    for table, rows in tables.items():
        two[table] = []
        for row in rows:
            if table not in ("drops", "listen", "resets", "retransmits", "connections"):
                two[table].append(row)
                continue
            two[table].append({**row, **OWNER})
            two[table].append({**row, **OTHER, "netns": row["netns"], "at": row["at"] + 0.001})
    return two


def _found(case: Case, folder: Path, *, of_two: bool) -> list[Finding]:
    worst = next(n for n, severity in reversed(case.answers) if severity)
    tables = _of_two(case.make(worst)) if of_two else case.make(worst)
    with open_recording(make_recording(folder, tables)) as rec:
        return [f for f in diagnose(rec, [RULES[case.rule]]).findings if f.id == case.rule]


_FIRST = {case.rule: case for case in reversed(CASES) if any(s for _, s in case.answers)}


@pytest.mark.parametrize("rule", sorted(_FIRST))
def test_of_two_processes_no_third_is_made(tmp_path: Path, rule: str) -> None:
    findings = _found(_FIRST[rule], tmp_path / "rec", of_two=True)
    assert findings
    for finding in findings:
        named = finding.values.get("owner_comm"), finding.values.get("owner_pid")
        assert named in {*WHO, (None, None)}, finding.title


@pytest.mark.parametrize("rule", sorted(COUNTED))
def test_a_title_says_that_there_are_others(tmp_path: Path, rule: str) -> None:
    (one,) = _found(_FIRST[rule], tmp_path / "one", of_two=False)
    (two,) = _found(_FIRST[rule], tmp_path / "two", of_two=True)
    assert "other process" not in one.title
    assert re.search(
        r"(zoo-keeper\[77\]|auction-server\[1234\]) and 1 other process ", two.title + " "
    )


def test_all_who_waited_in_vain_are_counted(tmp_path: Path) -> None:
    (found,) = _found(_FIRST["connect_timeouts"], tmp_path / "rec", of_two=True)
    assert "They are of 2 processes." in found.evidence


@pytest.mark.parametrize("rule", sorted(COUNTED))
@pytest.mark.parametrize("worst", [OWNER, OTHER], ids=["earlier", "later"])
def test_a_title_names_the_one_with_most(tmp_path: Path, rule: str, worst: Row) -> None:
    """One of several workers is stuck: it is named, whoever came last or has the larger number."""
    case = _FIRST[rule]
    tables = case.make(next(n for n, severity in reversed(case.answers) if severity))
    more = {
        table: [
            {**row, **who, "netns": row["netns"], "at": row["at"] + late}
            for row in rows
            for who, late in ((OWNER, 0), (worst, 0.001), (OTHER, 0.002))
        ]
        for table, rows in tables.items()
    }
    with open_recording(make_recording(tmp_path / "rec", more)) as rec:
        found = [f for f in diagnose(rec, [RULES[rule]]).findings if f.id == rule]
    assert [f.values["owner_pid"] for f in found] == [worst["owner_pid"]]
    assert f"{worst['owner_comm']}[{worst['owner_pid']}] and 1 other" in found[0].title
