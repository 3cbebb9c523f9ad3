"""Connects that were dropped here: why, also of a published port, behind the translation."""

from __future__ import annotations

from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import diagnose, load_rules
from unit.analyze.rule_cases import FLOW, NETNS, Row, Tables, drop, make_recording, refused, resent

RULES = {rule.id: rule for rule in load_rules()}
BEHIND: Row = {"daddr": "172.17.0.2", "dport": 80}
SYN: Row = {**resent("SYN", 1), **FLOW, "at": 3, "seq": 7, "length": 1, "rto_us": 1_000_000}


def _reasons(folder: Path, tables: Tables) -> list[str | None]:
    path = make_recording(folder, {"retransmits": [SYN], "drops": [], **tables})
    with open_recording(path) as rec:
        findings = diagnose(rec, [RULES["connect_timeouts"]]).findings
        return [finding.values["reason"] for finding in findings]


def test_a_drop_of_the_translated_opening(tmp_path: Path) -> None:
    lost = drop("NETFILTER_DROP", **BEHIND, seq=7, tcp_flags=2)
    assert _reasons(tmp_path / "r", {"drops": [lost]}) == ["NETFILTER_DROP"]
    other = drop("NETFILTER_DROP", **BEHIND, seq=8, tcp_flags=2)
    assert _reasons(tmp_path / "s", {"drops": [other]}) == [None]


def test_a_drop_of_the_answer_to_it(tmp_path: Path) -> None:
    answer = {"saddr": "172.17.0.2", "sport": 80, "daddr": FLOW["saddr"], "dport": FLOW["sport"]}
    lost = drop("NETFILTER_DROP", **answer, ack=8, tcp_flags=0x12)
    assert _reasons(tmp_path / "r", {"drops": [lost]}) == ["NETFILTER_DROP"]


@pytest.mark.parametrize(
    ("event", "at", "reason"),
    [
        ("accept_queue_full", 2, "full accept queue"),
        ("syn_queue_full", 2, "full SYN queue"),
        ("syn_dropped", 2, "answer could not be sent"),
        ("accept_queue_full", 0.5, None),  # the port of the client had another use then
        ("accept_queue_full", 3.5, None),
    ],
)
def test_a_listener_behind_the_translation(
    tmp_path: Path, event: str, at: float, reason: str | None
) -> None:
    row = {**refused(event, 1, lport=80), **BEHIND, "at": at, "netns": NETNS}
    assert _reasons(tmp_path / "r", {"listen": [row]}) == [reason]


def test_a_drop_without_a_reason_is_called_by_its_function(tmp_path: Path) -> None:
    lost = drop("NOT_SPECIFIED", location=0x7008, seq=7, tcp_flags=2)
    assert _reasons(tmp_path / "r", {"drops": [lost]}) == ["ip_error"]


@pytest.mark.parametrize(
    ("netns", "where"),
    [
        (NETNS, " in the network namespace of the host"),
        (9, " in network namespace web"),
        (10, " in network namespace 10"),
        (None, ""),
    ],
)
def test_where_it_was_dropped_has_a_name(tmp_path: Path, netns: int | None, where: str) -> None:
    lost = drop("NETFILTER_DROP", seq=7, tcp_flags=2, netns=netns)
    path = make_recording(
        tmp_path / "r", {"retransmits": [SYN], "drops": [lost]}, names=[("web", 9, None, "ip")]
    )
    with open_recording(path) as rec:
        (finding,) = diagnose(rec, [RULES["connect_timeouts"]]).findings
    said = f"Packets of these attempts were dropped on this host{where}: NETFILTER_DROP."
    assert said in finding.evidence


@pytest.mark.parametrize(
    ("at", "reason"), [(0.5, None), (1.5, "TCP_FLAGS"), (2.9, "TCP_FLAGS"), (3.1, None)]
)
def test_only_what_came_before_made_it_wait(tmp_path: Path, at: float, reason: str | None) -> None:
    """A second answer, and data of the connection that came about, are dropped later."""
    lost = drop("TCP_FLAGS", at=at, seq=7, tcp_flags=2)
    assert _reasons(tmp_path / "r", {"drops": [lost]}) == [reason]
