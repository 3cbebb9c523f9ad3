from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from droptape.analyze import Diff, QueryError, diff, open_recording
from droptape.analyze.comparison import Change, Verdict
from droptape.analyze.comparison.words import times
from unit.analyze import pairs
from unit.analyze.make import NEW_BASE, NEW_REASONS
from unit.analyze.test_cli import run


def compare(before: Path, after: Path, **options: Any) -> Diff:
    with open_recording(before) as one, open_recording(after) as other:
        return diff(one, other, **options)


def only(found: Diff, reason: str) -> Change:
    (change,) = [c for c in found.changes if c.values["reason"] == reason]
    return change


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_new_gone_worse_better_same(tmp_path: Path, rng: np.random.Generator) -> None:
    other = {"reason": "TCP_LISTEN_OVERFLOW", "location": 0x108C}
    unknown = {"reason": "NOT_SPECIFIED", "location": 0x1010}
    before = pairs.make(tmp_path / "a", [
        *pairs.spread(rng, 2, 60, pairs.CLOSED), *pairs.spread(rng, 3, 60, other),
        *pairs.spread(rng, 5, 60, unknown),
    ])  # fmt: skip
    after = pairs.make(tmp_path / "b", [
        *pairs.spread(rng, 2, 60, pairs.NFT), *pairs.spread(rng, 9, 60, other),
        *pairs.spread(rng, 5, 60, unknown),
    ])  # fmt: skip
    found = compare(before, after)
    verdicts = {c.values["reason"]: (c.verdict, c.sure) for c in found.changes}
    assert verdicts == {
        "NETFILTER_DROP": (Verdict.NEW, True), "NO_SOCKET": (Verdict.GONE, True),
        "TCP_LISTEN_OVERFLOW": (Verdict.WORSE, True), "NOT_SPECIFIED": (Verdict.SAME, True),
    }  # fmt: skip
    assert found.changes[0].verdict is Verdict.NEW
    assert only(found, "NETFILTER_DROP").ratio == math.inf
    worse = only(found, "TCP_LISTEN_OVERFLOW")
    assert worse.low < 3 < worse.high
    assert found.verdict.startswith("Worse and better: drops NETFILTER_DROP in nft_do_chain is new")
    back = compare(after, before)
    assert only(back, "TCP_LISTEN_OVERFLOW").verdict is Verdict.BETTER


def test_equal_recordings_give_no_verdict(tmp_path: Path) -> None:
    """False alarms of any kind in at most 5 % of pairs, each with several causes."""
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        paths = [
            pairs.make(tmp_path / f"{seed}{side}", [
                row
                for rate, location in ((0.2, 0x10), (3, 0x1010), (40, 0x3010))
                for row in pairs.spread(rng, rate, 20, {**pairs.CLOSED, "location": location})
            ], seconds=20)
            for side in "ab"
        ]  # fmt: skip
        alarms += compare(*paths, threshold=1.0).fails("any")
    assert alarms <= 2


def test_few_events_and_small_changes_are_no_news(tmp_path: Path, rng: np.random.Generator) -> None:
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 400, 60, pairs.CLOSED))
    after = pairs.make(tmp_path / "b", [
        *pairs.spread(rng, 440, 60, pairs.CLOSED),
        *({**pairs.FLOW, **pairs.NFT, "at": 5 + i} for i in range(9)),
    ])  # fmt: skip
    found = compare(before, after)
    assert not found.fails("any")
    assert only(found, "NO_SOCKET").low > 1  # more, surely, but by a tenth only
    assert any("fewer than 10 events" in note for note in found.notes)
    assert compare(before, after, threshold=1.05).fails("worse")
    assert compare(before, after, least=9).fails("new")


def test_one_burst_is_said_but_not_sure(tmp_path: Path, rng: np.random.Generator) -> None:
    burst = [{**pairs.FLOW, **pairs.NFT, "at": 7 + i / 1000} for i in range(200)]
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 3, 60, pairs.CLOSED))
    after = pairs.make(tmp_path / "b", [*pairs.spread(rng, 3, 60, pairs.CLOSED), *burst])
    change = only(compare(before, after), "NETFILTER_DROP")
    assert (change.verdict, change.sure) == (Verdict.NEW, False)
    assert change.dispersion > 100
    # Nor is it the same where there was one like it before.
    once = pairs.make(tmp_path / "d", [*pairs.spread(rng, 3, 60, pairs.CLOSED), burst[0]])
    for first, second, verdict in (
        (once, after, Verdict.WORSE),
        (after, once, Verdict.BETTER),
    ):
        change = only(compare(first, second), "NETFILTER_DROP")
        assert (change.verdict, change.sure) == (verdict, False)
    assert times(change.low).startswith("<0.001")
    # Where there were bursts before too, another one is no change.
    twice = pairs.make(tmp_path / "c", [*burst, *({**row, "at": row["at"] + 20} for row in burst)])
    assert only(compare(twice, after), "NETFILTER_DROP").verdict is Verdict.SAME


def test_durations_and_traffic(tmp_path: Path, rng: np.random.Generator) -> None:
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 4, 120, pairs.NFT), seconds=120)
    after = pairs.make(tmp_path / "b", pairs.spread(rng, 4, 30, pairs.NFT), seconds=30)
    found = compare(before, after)
    assert only(found, "NETFILTER_DROP").verdict is Verdict.SAME
    assert any("traffic was not recorded" in note for note in found.notes)
    # Four times the load, four times the drops: per segment nothing changed.
    calm = pairs.make(tmp_path / "c", pairs.spread(rng, 4, 60, pairs.NFT), segments=100_000)
    busy = pairs.make(tmp_path / "d", pairs.spread(rng, 16, 60, pairs.NFT), segments=400_000)
    found = compare(calm, busy)
    change = only(found, "NETFILTER_DROP")
    assert (change.verdict, change.per) == (Verdict.SAME, "segment")
    assert change.rates["segment"][0] == pytest.approx(change.before / 0.1)
    assert change.rates["connection"][1] == pytest.approx(change.after / 40_000)
    assert any("Segments per second differ: 4x" in note for note in found.notes)
    assert only(compare(calm, busy, per="second"), "NETFILTER_DROP").verdict is Verdict.WORSE


def test_other_kernel_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 4, 60, pairs.NFT))
    after = pairs.make(
        tmp_path / "b", pairs.spread(rng, 4, 60, pairs.NFT),
        base=NEW_BASE, reasons=NEW_REASONS, kernel="6.19.0",
    )  # fmt: skip
    found = compare(before, after)
    assert [c.verdict for c in found.changes] == [Verdict.SAME]
    assert [(s.name, s.before, s.after) for s in found.settings] == [("kernel", "6.18.1", "6.19.0")]
    assert any("compared by name" in note for note in found.notes)


def test_clones_of_a_function_are_one(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 4, 60, pairs.NFT))
    monkeypatch.setattr("unit.analyze.make.SYMBOLS", ((0x3000, "nft_do_chain.constprop.0", None),))
    after = pairs.make(tmp_path / "b", pairs.spread(rng, 4, 60, pairs.NFT))
    (change,) = compare(before, after).changes
    assert change.values["function"] == "nft_do_chain"


def test_sampling_and_losses(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = pairs.spread(rng, 1, 60, pairs.NFT)
    sampled = [{**row, "weight": 64} for row in rows]
    before = pairs.make(tmp_path / "a", sampled, losses={"sampled": 63 * len(rows)})
    exact = pairs.counted(pairs.spread(rng, 64, 60, pairs.NFT))
    half = [{**row, "weight": 32} for row in pairs.spread(rng, 1, 60, pairs.NFT)]
    after = pairs.make(tmp_path / "b", half, exact=exact, losses={"ring_full": 1900})
    found = compare(before, after)
    assert only(found, "NETFILTER_DROP").verdict is Verdict.SAME
    assert only(found, "NETFILTER_DROP").dispersion >= 32
    assert any("sampled" in note for note in found.notes)
    owners = compare(before, after, by="owner")
    (owner,) = owners.changes
    # The rows hold half of what was counted: scaled up.
    assert owner.after == pytest.approx(sum(row["events"] for row in exact), rel=1e-6)
    assert any("scaled up" in note for note in owners.notes)


def test_settings_limits_and_listeners(tmp_path: Path) -> None:
    web = {"at": 1, "netns": 1, "laddr": "0.0.0.0", "lport": 80, "owner_comm": "web", "open": 1}
    old = {"at": 1, "netns": 1, "laddr": "0.0.0.0", "lport": 21, "owner_comm": "ftp", "open": 1}
    before = pairs.make(
        tmp_path / "a", [], sysctls={"net.core.somaxconn": "128", "net.ipv4.tcp_sack": "1"},
        listeners=[{**web, "backlog": 128}, {**old, "backlog": 5}],
    )  # fmt: skip
    after = pairs.make(
        tmp_path / "b", [], sysctls={"net.core.somaxconn": "4096", "net.ipv4.tcp_sack": "1"},
        listeners=[{**web, "backlog": 4096}],
    )  # fmt: skip
    found = {(s.what, s.name): (s.before, s.after) for s in compare(before, after).settings}
    assert found == {
        ("sysctl", "net.core.somaxconn"): ("128", "4096"),
        ("limit", "backlog of 0.0.0.0:80 web"): ("128", "4096"),
        ("listener", "0.0.0.0:21 ftp"): ("listening", None),
    }


def test_benign_drops_decide_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    many = pairs.spread(rng, 50, 60, {**pairs.CLOSED, "benign": 1})
    found = compare(pairs.make(tmp_path / "a", []), pairs.make(tmp_path / "b", many))
    assert not found.changes
    assert any("healthy systems" in note for note in found.notes)
    with open_recording(tmp_path / "a") as one, open_recording(tmp_path / "b") as other:
        shown = diff(one, other, include_benign=True)
    assert [c.benign for c in shown.changes] == [True]
    assert not shown.fails("any")


def test_parts_of_one_recording(tmp_path: Path, rng: np.random.Generator) -> None:
    late = [{**row, "at": row["at"] + 30} for row in pairs.spread(rng, 5, 30, pairs.NFT)]
    path = pairs.make(tmp_path / "a", late)
    with open_recording(path) as rec:
        found = diff(rec.between(end="+30s"), rec.between("+30s"))
    assert found.before.seconds == found.after.seconds == 30
    assert only(found, "NETFILTER_DROP").verdict is Verdict.NEW
    done = run("diff", path, path, "--split", "+30s", "--fail-on", "new", "-f", "json")
    assert (done.returncode, json.loads(done.stdout)["new"]) == (1, 1)


def test_exit_codes_and_text(tmp_path: Path, rng: np.random.Generator) -> None:
    before = pairs.make(tmp_path / "a", pairs.spread(rng, 2, 60, pairs.CLOSED))
    after = pairs.make(tmp_path / "b", pairs.spread(rng, 8, 60, pairs.CLOSED))
    codes = {
        fail_on: run("diff", before, after, "--fail-on", fail_on).returncode
        for fail_on in ("worse", "new", "any")
    }
    assert codes == {"worse": 1, "new": 0, "any": 1}
    assert run("diff", after, before, "--fail-on", "worse").returncode == 0
    assert run("diff", after, before, "--fail-on", "any").returncode == 1
    assert run("diff", before, after, "--fail-on", "worse", "--threshold", 9).returncode == 0
    assert run("diff", before, tmp_path / "none").returncode == 2
    text = run("diff", before, after).stdout
    assert text.startswith("Worse: drops NO_SOCKET in tcp_v4_rcv is worse (")
    wrong = run("diff", before, after, "--by", "nonsense")
    assert wrong.returncode == 2
    assert "nonsense" in wrong.stderr


def test_what_makes_no_sense_is_refused(incident: Path) -> None:
    with open_recording(incident) as rec:
        for options in ({"per": "day"}, {"threshold": 0.5}, {"confidence": 1}, {"by": "nope"}):
            with pytest.raises(QueryError):
                diff(rec, rec, **options)
