"""What the kernel calls by a name that misleads is said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import diagnose, load_rules
from unit.analyze.rule_cases import SENT, drop, make_recording, resent

RULES = {rule.id: rule for rule in load_rules()}


@pytest.mark.parametrize(("location", "said"), [(0x9008, True), (0x1008, False)])
def test_no_room_for_a_cookie_is_a_full_queue(tmp_path: Path, location: int, said: bool) -> None:
    lost = drop("NO_SOCKET", **SENT, location=location)
    tables = {"retransmits": [resent("TLP", 1)], "drops": [lost]}
    with open_recording(make_recording(tmp_path / "r", tables)) as rec:
        (finding,) = diagnose(rec, [RULES["retransmits_dropped_here"]]).findings
    assert ("the accept queue was full" in " ".join(finding.evidence)) is said
