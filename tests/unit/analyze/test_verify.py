"""Whether a recording is whole and agrees with the kernel: recordings that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from droptape.analyze import open_recording
from droptape.analyze.app import app
from droptape.analyze.comparison import diff
from droptape.analyze.verify import Finding, Verdict
from droptape.analyze.verify.rules import EDGE, KILLED, OUTSIDE, RULES
from droptape.format.manifest import Probe
from unit.analyze.make import Maker

SPACE = 4026531840
EVENT: dict[str, Any] = {
    "saddr": "10.0.0.7", "daddr": "10.0.0.2", "sport": 51034, "dport": 8080, "netns": SPACE,
}  # fmt: skip
LISTEN = {**EVENT, "event": "accept_queue_full", "mechanism": "consume_skb", "lport": 8080}


Tables = dict[str, Any]


def counter(at: float, name: str, value: int, **more: Any) -> dict[str, Any]:
    return {"at": at, "netns": SPACE, "name": name, "value": value, **more}


def life(until: float = 60, number: int = 1, since: float = 0.5) -> list[dict[str, Any]]:
    return [counter(since, "netns.life", number), counter(until, "netns.life", number)]


def refusals(count: int, start: float = 10) -> list[dict[str, Any]]:
    return [{**LISTEN, "at": start + i / 100} for i in range(count)]


def total(events: int, at: float = 20, **more: Any) -> dict[str, Any]:
    key = {"kind": "listen", "cause": "accept_queue_full", "netns": SPACE, "recorded": events}
    return {"at": at, **key, "events": events, **more}


def moved(drops: int, *, overflows: int | None = None, since: int = 3) -> list[dict[str, Any]]:
    overflows = drops if overflows is None else overflows
    return [
        counter(0.5, "TcpExt.ListenDrops", since),
        counter(0.5, "TcpExt.ListenOverflows", 0),
        counter(11, "TcpExt.ListenDrops", since + drops),
        counter(11, "TcpExt.ListenOverflows", overflows),
        *life(),
    ]


def make(path: Path, finish: dict[str, Any] | None = None, **tables: list[dict[str, Any]]) -> Path:
    maker = Maker(path)
    maker.symbols()
    maker.dictionary(
        "reasons",
        [
            {"enum": "skb_drop_reason", "value": 1, "name": name, "subsystem": "core"}
            for name in ("SOCKET_RCVBUFF", "NO_SOCKET", "NETFILTER_DROP")
        ],
    )
    for table, rows in tables.items():
        maker.seal(table, rows)
    return maker.finish(**(finish or {}))


def check(folder: Path, subject: str) -> Finding:
    """Return the finding of the counters about `subject`."""
    with open_recording(folder) as rec:
        found = rec.verify()
    (one,) = [f for f in found.findings if f.subject == subject and f.part == "counters"]
    assert (one in found.unexplained) == (one.verdict is Verdict.UNEXPLAINED)
    return one


def test_equal_books(tmp_path: Path) -> None:
    folder = make(tmp_path / "r", listen=refusals(9), counters=moved(9), totals=[total(9)])
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.verdict, one.counted, one.recorded, one.difference) == (Verdict.OK, 9, 9, 0)
    assert one.netns == SPACE
    with open_recording(folder) as rec:
        assert rec.verify().balanced
        assert rec.summary().unbalanced == []
        assert not [note for note in diff(rec, rec).notes if "do not balance" in note]


@pytest.mark.parametrize("rows", [8, 10])
def test_a_row_too_few_or_too_many(tmp_path: Path, rows: int) -> None:
    folder = make(tmp_path / "r", listen=refusals(rows), counters=moved(9), totals=[total(rows)])
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.verdict, one.difference, one.why) == (Verdict.UNEXPLAINED, 9 - rows, "")
    with open_recording(folder) as rec:
        assert [f.subject for f in rec.summary().unbalanced][:1] == ["TcpExt.ListenDrops"]
        said = [note for note in diff(rec, rec).notes if "do not balance" in note]
        assert f"TcpExt.ListenDrops 9, recorded {rows} " in said[0]


def test_what_came_before_the_first_reading_does_not_count(tmp_path: Path) -> None:
    early = [{**LISTEN, "at": 0.2}]
    folder = make(tmp_path / "r", listen=early + refusals(9), counters=moved(9), totals=[total(10)])
    assert check(folder, "TcpExt.ListenDrops").verdict is Verdict.OK
    outside = check(folder, "listen")
    assert (outside.verdict, outside.recorded, outside.why) == (Verdict.NOT_CHECKED, 1, OUTSIDE)


def test_the_same_number_for_two_namespaces(tmp_path: Path) -> None:
    """What happened between the last reading of one and the begin of the next does not count."""
    counters = [
        counter(0.5, "TcpExt.ListenDrops", 100), counter(11, "TcpExt.ListenDrops", 109),
        *life(until=12),
        counter(20, "TcpExt.ListenDrops", 0), counter(31, "TcpExt.ListenDrops", 5),
        *life(since=20, number=2),
    ]  # fmt: skip
    events = refusals(9) + refusals(4, start=14) + refusals(5, start=30)
    folder = make(tmp_path / "r", listen=events, counters=counters, totals=[total(18)])
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.verdict, one.counted, one.recorded) == (Verdict.OK, 14, 14)


def test_an_event_at_the_very_reading(tmp_path: Path) -> None:
    events = [*refusals(9), {**LISTEN, "at": 0.501}]
    folder = make(tmp_path / "r", listen=events, counters=moved(9), totals=[total(10)])
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.verdict, one.difference, one.why) == (Verdict.EXPLAINED, -1, EDGE)


def test_what_is_known_to_be_lost(tmp_path: Path) -> None:
    losses = [{"at": 20, "kind": "listen", "cause": "ring_full", "events": 4}]
    folder = make(
        tmp_path / "r",
        listen=refusals(5), counters=moved(9), totals=[total(9, recorded=5)], losses=losses,
    )  # fmt: skip
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.verdict, one.recorded, one.lost, one.difference) == (Verdict.EXPLAINED, 5, 4, 0)
    with open_recording(folder) as rec:
        assert rec.verify().balanced


@pytest.mark.parametrize(("left_out", "balanced"), [(4, True), (3, False)])
def test_what_the_kernel_did_not_run_a_program_for(
    tmp_path: Path, left_out: int, balanced: bool
) -> None:
    losses = [{"at": 20, "kind": "listen", "cause": "recursion", "events": left_out}]
    folder = make(
        tmp_path / "r", listen=refusals(5), counters=moved(9), totals=[total(5)], losses=losses
    )
    one = check(folder, "TcpExt.ListenDrops")
    assert (one.recorded, one.lost, one.difference) == (5, 0, 4)
    with open_recording(folder) as rec:
        assert rec.verify().balanced is balanced


def test_what_is_lost_without_a_word(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "r", listen=refusals(5), counters=moved(9), totals=[total(9, recorded=5)]
    )
    with open_recording(folder) as rec:
        (bad,) = rec.verify().unexplained
    assert (bad.part, bad.subject, bad.difference) == ("losses", "listen", 4)


def test_rows_that_differ_from_the_totals(tmp_path: Path) -> None:
    doctored = [{**row, "weight": 2} for row in refusals(9)]
    folder = make(tmp_path / "r", listen=doctored, counters=moved(18), totals=[total(9)])
    with open_recording(folder) as rec:
        (bad,) = rec.verify().unexplained
    assert (bad.part, bad.subject) == ("totals", "listen: accept_queue_full")
    assert (bad.counted, bad.recorded) == (9, 18)


def test_a_killed_recorder_is_behind_with_its_totals(tmp_path: Path) -> None:
    late = [total(7, at=10.05)]
    parts: Tables = {"listen": refusals(9), "counters": moved(9), "totals": late}
    folder = make(tmp_path / "r", {"state": "recovered"}, **parts)
    with open_recording(folder) as rec:
        found = rec.verify()
    assert found.balanced
    assert [f.why for f in found.findings if f.part == "totals"] == [KILLED]
    # Rows of the time before that have no excuse, nor has it the other way round.
    again = {**parts, "totals": [*late, total(0, at=20)]}
    with open_recording(make(tmp_path / "t", {"state": "recovered"}, **again)) as rec:
        assert not rec.verify().balanced
    folder = make(tmp_path / "s", {"state": "recovered"}, **parts | {"totals": [total(11)]})
    with open_recording(folder) as rec:
        assert not rec.verify().balanced


def retransmit(kind: str, at: float, segments: int = 1, error: int = 0) -> dict[str, Any]:
    return {**EVENT, "at": at, "kind": kind, "segments": segments, "error": error}


def test_retransmits_by_kind_and_segments(tmp_path: Path) -> None:
    events = [
        retransmit("FAST", 10, 4), retransmit("FAST", 11, 2, error=-1), retransmit("SYN", 12),
        retransmit("SYNACK", 13), retransmit("RTO", 14), retransmit("TLP", 15),
        retransmit("SLOW_START", 16, 3), retransmit("DEFERRED", 17, 0, error=-16),
    ]  # fmt: skip
    values = {
        "Tcp.RetransSegs": 13, "TcpExt.TCPFastRetrans": 4, "TcpExt.TCPSynRetrans": 2,
        "TcpExt.TCPTimeouts": 4, "TcpExt.TCPLossProbes": 3, "TcpExt.TCPSlowStartRetrans": 3,
    }  # fmt: skip
    counters = life() + [
        counter(at, name, value * n)
        for name, value in values.items()
        for n, at in enumerate((0.5, 20))
    ]  # fmt: skip
    folder = make(tmp_path / "r", retransmits=events, counters=counters, totals=[])
    exact = ("Tcp.RetransSegs", "TcpExt.TCPFastRetrans", "TcpExt.TCPSynRetrans")
    for name in (*exact, "TcpExt.TCPSlowStartRetrans"):
        assert check(folder, name).verdict is Verdict.OK, name
    for name, more in (("TcpExt.TCPTimeouts", 2), ("TcpExt.TCPLossProbes", 2)):
        one = check(folder, name)
        assert (one.verdict, one.difference) == (Verdict.EXPLAINED, more)
        assert one.why


def test_more_probes_than_the_kernel_counted_is_an_error(tmp_path: Path) -> None:
    counters = [*life(), counter(0.5, "TcpExt.TCPLossProbes", 0), counter(20, "Tcp.RetransSegs", 1)]
    folder = make(tmp_path / "r", retransmits=[retransmit("TLP", 10)], counters=counters, totals=[])
    assert check(folder, "TcpExt.TCPLossProbes").verdict is Verdict.UNEXPLAINED


def test_udp_of_both_versions_is_one_sum(tmp_path: Path) -> None:
    drop = {**EVENT, "protocol": "UDP", "reason": "NO_SOCKET", "location": 0x1200}
    counters = [
        *life(),
        counter(0.5, "Udp.NoPorts", 0), counter(9, "Udp.NoPorts", 2),
        counter(0.5, "Udp6.NoPorts", 5), counter(9, "Udp6.NoPorts", 6),
    ]  # fmt: skip
    events = [{**drop, "at": at} for at in (3, 4, 5)] + [{**drop, "at": 6, "protocol": "TCP"}]
    folder = make(tmp_path / "r", drops=events, counters=counters, totals=[])
    one = check(folder, "Udp.NoPorts + Udp6.NoPorts")
    assert (one.verdict, one.counted, one.recorded) == (Verdict.OK, 3, 3)


def test_conntrack_may_count_less_and_not_more(tmp_path: Path) -> None:
    more: Tables = {
        "counters": [*life(), counter(0.5, "conntrack.drop", 0), counter(9, "conntrack.drop", 2)]
    }
    folder = make(tmp_path / "r", drops=[], totals=[], **more)
    assert check(folder, "conntrack.drop").verdict is Verdict.UNEXPLAINED


def test_a_reason_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    counters = [*life(), counter(0.5, "Tcp.InCsumErrors", 0), counter(9, "Tcp.InCsumErrors", 2)]
    folder = make(tmp_path / "r", drops=[], counters=counters, totals=[])
    assert check(folder, "Tcp.InCsumErrors").verdict is Verdict.NOT_CHECKED


def test_a_probe_that_does_not_see_all(tmp_path: Path) -> None:
    probe = Probe("retransmits/tcp", "retransmits", "raw_tracepoint", True, "errors are not told")
    counters = [*life(), counter(0.5, "Tcp.RetransSegs", 0), counter(9, "Tcp.RetransSegs", 2)]
    parts: Tables = {"retransmits": [retransmit("RTO", 5)], "counters": counters, "totals": []}
    one = check(make(tmp_path / "r", {"probes": [probe]}, **parts), "Tcp.RetransSegs")
    assert (one.verdict, one.why.endswith("errors are not told")) == (Verdict.EXPLAINED, True)
    assert check(make(tmp_path / "s", **parts), "Tcp.RetransSegs").verdict is Verdict.UNEXPLAINED


def test_every_rule_is_about_a_table_and_counters_that_exist() -> None:
    from droptape.bpf.kinds import all_kinds

    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert {rule.kind for rule in RULES} <= set(all_kinds())
    assert all(counter.count(".") == 1 for rule in RULES for counter in rule.counters)


# --- files ------------------------------------------------------------------------------------


def whole(path: Path) -> Path:
    return make(path, listen=refusals(50), counters=moved(50), totals=[total(50)])


def flip(folder: Path) -> None:
    (path,) = (folder / "listen").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def remove(folder: Path) -> None:
    (path,) = (folder / "listen").iterdir()
    path.unlink()


def add(folder: Path) -> None:
    (path,) = (folder / "listen").iterdir()
    path.with_name(path.name.replace("000001", "000002")).write_bytes(path.read_bytes())


def rewrite(folder: Path) -> None:
    """Other rows under the same name, in a file that is sound in itself."""
    (path,) = (folder / "listen").iterdir()
    other = make(folder.parent / "other", listen=refusals(49))
    (source,) = (other / "listen").iterdir()
    path.write_bytes(source.read_bytes())


def cut_journal(folder: Path) -> None:
    (journal,) = (make_journal(folder / "resets")).glob("*.journal")
    journal.write_bytes(journal.read_bytes()[:-3])


def make_journal(target: Path) -> Path:
    maker = Maker(target.parent.parent / "journals")
    path = maker.journal("resets", [{**EVENT, "at": 3, "direction": "sent"}])
    target.mkdir()
    path.rename(target / path.name)
    return target


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flip, ""), (remove, "not there"), (add, "not in the manifest"),
        (rewrite, "SHA-256"), (cut_journal, "frame"),
    ],
)  # fmt: skip
def test_files_that_are_not_whole(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    folder = whole(tmp_path / "r")
    with open_recording(folder) as rec:
        assert rec.verify().balanced
    damage(folder)
    with open_recording(folder) as rec:
        bad = [f for f in rec.verify().unexplained if f.part == "files"]
    assert len(bad) == 1
    assert why in bad[0].why


def test_a_flipped_bit_is_found_anywhere(tmp_path: Path) -> None:
    folder = whole(tmp_path / "r")
    (path,) = (folder / "totals").iterdir()
    data = path.read_bytes()
    for at in range(5, len(data), len(data) // 12):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert run(folder)[0] == 1, at


# --- the command ------------------------------------------------------------------------------


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return done.exit_code, done.stdout


def test_exit_codes_and_formats(tmp_path: Path) -> None:
    folder = whole(tmp_path / "r")
    code, text = run(folder)
    assert code == 0
    assert "the books balance" in text
    assert "TcpExt.ListenDrops" not in text
    assert "TcpExt.ListenDrops" in run(folder, "--all")[1]
    remove(folder)
    code, text = run(folder)
    assert code == 1
    assert "do not balance" in text
    code, text = run(folder, "--format", "json")
    assert code == 1
    rows = json.loads(text)
    assert {"verdict", "part", "counted", "recorded", "difference", "why"} <= set(rows[0])
    assert any(row["verdict"] == "unexplained" for row in rows)


def test_several_recordings(tmp_path: Path) -> None:
    whole(tmp_path / "a")
    remove(whole(tmp_path / "b"))
    code, text = run(tmp_path / "a", tmp_path / "b", "--format", "csv")
    assert code == 1
    assert not [line for line in text.splitlines() if line.startswith("a,") and "unexpl" in line]


def test_a_recording_without_counters(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "old")
    maker.tables.pop("counters")
    maker.seal("listen", refusals(3))
    maker.seal("totals", [total(3)])
    folder = maker.finish()
    with open_recording(folder) as rec:
        found = rec.verify()
        assert rec.summary().unbalanced == []
    assert found.balanced
    assert {f.part for f in found.findings} == {"files", "totals", "losses"}
