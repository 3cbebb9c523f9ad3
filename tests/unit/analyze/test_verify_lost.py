"""What `verify` makes of losses that are told in an unusual way, and of slow readings."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.render.words import loss
from droptape.analyze.verify import Verdict
from droptape.analyze.verify.rules import EDGE, KILLED, LOSSES_LOST, READING, TOTALS_LOST
from droptape.format.layout import LOCK
from unit.analyze.test_verify import (
    LISTEN,
    SPACE,
    Tables,
    check,
    counter,
    life,
    make,
    moved,
    refusals,
    total,
)


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(6.0, Verdict.EXPLAINED), (1.0, Verdict.UNEXPLAINED), (None, None)]
)
def test_totals_that_counted_for_longer_than_a_second(
    tmp_path: Path, seconds: float | None, verdict: Verdict | None
) -> None:
    """Of what was lost while the recorder had to wait, some came before the first reading."""
    counters = [
        counter(2, "TcpExt.ListenDrops", 3), counter(11, "TcpExt.ListenDrops", 12), *life(since=2),
    ]  # fmt: skip
    interval = {} if seconds is None else {"interval_ns": int(seconds * 1e9)}
    folder = make(
        tmp_path / "r",
        listen=refusals(5), counters=counters,
        totals=[total(9, at=6, recorded=0, **interval), total(5, at=11)],
        losses=[{"at": 6, "kind": "listen", "cause": "ring_full", "events": 9}],
    )  # fmt: skip
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.counted, one.recorded, one.lost) == (9, 5, 9)
    assert one.verdict is (verdict or Verdict.UNEXPLAINED)
    with open_recording(folder) as rec:
        assert bool(rec.summary().unbalanced) == (verdict is not Verdict.EXPLAINED)


@pytest.mark.parametrize(("said", "balanced"), [(4, True), (3, False), (0, False)])
def test_what_only_the_manifest_says_that_a_full_disk_cost(
    tmp_path: Path, said: int, balanced: bool
) -> None:
    """Without an inode for one more file there is no table of losses."""
    folder = make(
        tmp_path / "r",
        {"losses": {"listen": {"disk_full": said}} if said else {}},
        listen=refusals(5), counters=moved(9), totals=[total(9)],
    )  # fmt: skip
    with open_recording(folder) as rec:
        assert rec.verify().balanced is balanced


@pytest.mark.parametrize(("full", "balanced"), [(9, True), (4, False)])
def test_events_that_the_totals_had_no_room_for(tmp_path: Path, full: int, balanced: bool) -> None:
    """Five have rows, four found the ring full; of none there is a total."""
    losses = [
        {"at": 11, "kind": "listen", "cause": "map_full", "events": full},
        {"at": 11, "kind": "listen", "cause": "ring_full", "events": 4},
    ]
    other = [{**total(1, at=11), "kind": "drops", "cause": "NO_SOCKET"}]
    folder = make(
        tmp_path / "r", listen=refusals(5), counters=moved(9), totals=other,
        drops=[{"at": 11, "reason": "NO_SOCKET", "netns": SPACE}], losses=losses,
    )  # fmt: skip
    with open_recording(folder) as rec:
        assert rec.verify().balanced is balanced
        summary = rec.summary()
        assert bool(summary.unbalanced) is not balanced
        shown = [loss(x["kind"], x["cause"], x["events"]) for x in summary.losses]
    assert f"In no total, but in rows: {full} listen (map full: too many different ones)." in shown
    assert "Not recorded: 4 listen (ring full)." in shown


@pytest.mark.parametrize("running", [True, False])
def test_counters_of_a_running_recording_may_be_ahead_of_the_rows(
    tmp_path: Path, running: bool
) -> None:
    """They are read a moment after them."""
    folder = make(
        tmp_path / "r", {"state": "recording" if running else "complete"},
        listen=refusals(5), counters=moved(9), totals=[total(5)],
    )  # fmt: skip
    with (folder / LOCK).open("w") as lock:
        if running:
            fcntl.flock(lock, fcntl.LOCK_EX)
        found = check(folder, "TcpExt.ListenDrops")
    assert found.difference == 4
    assert found.verdict is (Verdict.EXPLAINED if running else Verdict.UNEXPLAINED)
    assert found.why == (READING if running else "")


@pytest.mark.parametrize("said", [1, 0])
def test_totals_that_a_full_disk_cost(tmp_path: Path, said: int) -> None:
    finish: Tables = {"losses": {"totals": {"disk_full": said}} if said else {}}
    folder = make(tmp_path / "r", finish, listen=refusals(9), counters=moved(9), totals=[total(5)])
    with open_recording(folder) as rec:
        found = rec.verify()
    assert found.balanced is bool(said)
    assert (TOTALS_LOST in [f.why for f in found.findings]) is bool(said)


@pytest.mark.parametrize(("told", "refused", "balanced"),
                         [(4, 1, True), (3, 1, False), (4, 0, False)])  # fmt: skip
def test_losses_that_a_full_disk_cost(
    tmp_path: Path, told: int, refused: int, balanced: bool
) -> None:
    finish: Tables = {"losses": {"listen": {"ring_full": told}, "losses": {"disk_full": refused}}}
    folder = make(
        tmp_path / "r", finish, listen=refusals(5), counters=moved(9),
        totals=[total(9, recorded=5)], losses=[],
    )  # fmt: skip
    with open_recording(folder) as rec:
        found = rec.verify()
    assert found.balanced is balanced
    assert (LOSSES_LOST in [f.why for f in found.findings]) is balanced


@pytest.mark.parametrize(("last", "balanced"), [(11, True), (40, False)])
def test_without_any_totals_only_a_moment_is_excused(
    tmp_path: Path, last: float, balanced: bool
) -> None:
    """A recorder may be killed in its first second."""
    finish: Tables = {"state": "recording"}
    folder = make(
        tmp_path / "r", finish, listen=[*refusals(8), *refusals(1, last)], counters=moved(9)
    )
    with open_recording(folder) as rec:
        found = [f for f in rec.verify().findings if f.part == "totals" and f.difference]
    assert [f.why for f in found] == ([KILLED] if balanced else [""])


@pytest.mark.parametrize(
    ("at", "difference", "why"),
    [(0.4, 0, ""), (0.7, -1, EDGE), (0.9, -1, ""), (59.9, -1, ""), (60.2, -1, EDGE), (61, 0, "")],
)
def test_an_event_within_a_reading_that_was_interrupted(
    tmp_path: Path, at: float, difference: int, why: str
) -> None:
    """From one counter to the next it took a third of a second, at the begin and at the end."""
    counters = [
        counter(0.5, "TcpExt.ListenDrops", 3), counter(0.83, "Udp.NoPorts", 8),
        counter(11, "TcpExt.ListenDrops", 12), counter(60.33, "Udp.NoPorts", 9),
        *life(),
    ]  # fmt: skip
    events = [*refusals(9), {**LISTEN, "at": at}]
    folder = make(tmp_path / "r", listen=events, counters=counters, totals=[total(10)])
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.difference, one.why) == (difference, why)
    wrong = Verdict.EXPLAINED if why else Verdict.UNEXPLAINED
    assert one.verdict is (wrong if difference else Verdict.OK)
