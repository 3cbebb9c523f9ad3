"""Retransmits that sent no segment: in the rows, the totals and the losses alike."""

from __future__ import annotations

from pathlib import Path

from droptape.analyze import open_recording
from droptape.analyze.verify import Verdict
from droptape.analyze.verify.rules import NOT_SENT
from unit.analyze.test_verify import EVENT, SPACE, check, counter, life, make


def test_deferred_retransmits_are_counted_by_number(tmp_path: Path) -> None:
    """They sent no segment. What failed for another reason is in no total, but may be lost."""
    sent = {**EVENT, "at": 10, "kind": "OTHER", "segments": 2}
    deferred = {**EVENT, "at": 11, "kind": "DEFERRED", "segments": 0, "error": -16}
    unroutable = {**EVENT, "at": 12, "kind": "RTO", "segments": 0, "error": -113}
    key = {"at": 20, "kind": "retransmits", "netns": SPACE}
    folder = make(
        tmp_path / "r",
        retransmits=[sent, deferred, {**deferred, "weight": 3}, unroutable],
        counters=[
            counter(0.5, "Tcp.RetransSegs", 0), counter(11.5, "Tcp.RetransSegs", 2), *life()
        ],
        totals=[
            {**key, "cause": "OTHER", "events": 2, "recorded": 2},
            {**key, "cause": "DEFERRED", "events": 6, "recorded": 4, "benign": True},
        ],
        losses=[{"at": 20, "kind": "retransmits", "cause": "ring_full", "events": 3}],
    )  # fmt: skip
    assert check(folder, "Tcp.RetransSegs").verdict is Verdict.OK
    with open_recording(folder) as rec:
        found = rec.verify()
        harm = rec.top("kind", table="retransmits").fetchall()
        every = rec.top("cause", table="events", include_benign=True).fetchall()
        (kind,) = [k for k in rec.summary().kinds if k["kind"] == "retransmits"]
    assert found.unexplained == []
    assert {(f.part, f.subject, f.counted, f.recorded, f.why) for f in found.findings} >= {
        ("totals", "retransmits", 6, 6, ""),
        ("losses", "retransmits", 2, 3, NOT_SENT),
    }
    assert {row[:2] for row in harm} == {("OTHER", 2), ("RTO", 0)}
    assert {row[1:3] for row in every} == {("OTHER", 2), ("RTO", 0), ("DEFERRED", 4)}
    assert (kind["events"], kind["recorded"], kind["benign"]) == (2, 2, 6)
