from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from droptape.analyze import Recording, open_recording
from droptape.analyze.render import info as info_view
from droptape.analyze.render import summary as summary_view
from droptape.analyze.render import timeline as timeline_view
from droptape.analyze.render.words import bars, duration, offset, rate, size, sparkline
from droptape.analyze.timeline import automatic
from droptape.format.manifest import Probe
from unit.analyze.incident import make_incident
from unit.analyze.make import SECOND, Maker


def screen(width: int = 80) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False), out


EXPECTED = """\
web-1  web-1, Linux 6.18.1
2023-11-14 22:13:20 to 22:14:20 UTC, 60.0 s

Most: refused (listen) accept_queue_full, 10 times, since +5.0 s. Most affected:
auction-server[1234] on port 8080.

WHAT HAPPENED
kind              events  per s    since    until  over time
drops                 13   0.22   +5.5 s  +40.0 s  ·▇···▂·▂··▂····
refused (listen)      10   0.17   +5.0 s   +5.9 s  ·█·············
retransmits            5   0.08  +10.0 s  +10.5 s  ··▇············
resets              none

WHY
kind         cause                kernel function  events  of kind    since
listen       accept_queue_full    -                    10  100.0 %   +5.0 s
drops        NO_SOCKET            tcp_v4_rcv            7   53.8 %  +20.0 s
drops        TCP_LISTEN_OVERFLOW  tcp_v4_rcv            4   30.8 %   +5.5 s
retransmits  FAST                 -                     4   80.0 %  +10.5 s
drops        NETFILTER_DROP       nft_do_chain          1    7.7 %  +30.1 s
drops        NOT_SPECIFIED        _stext                1    7.7 %  +40.0 s
retransmits  RTO                  -                     1   20.0 %  +10.0 s

TO WHOM
process               port  container  events  mostly               since
auction-server[1234]  8080  auction        19  accept_queue_full   +5.0 s
no process known         9  -               1  NO_SOCKET          +20.0 s
no process known       443  -               1  NETFILTER_DROP     +30.1 s
no process known         -  -               1  NOT_SPECIFIED      +40.0 s

Not recorded: 6 drops (ring full).
Beside these, 5,000 drops that healthy systems have, only counted.
"""


def test_summary_is_one_screen(rec: Recording) -> None:
    console, out = screen()
    summary_view.show(console, rec.summary())
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines == EXPECTED.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


def test_a_full_summary_still_fits(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    names = list(maker.reasons.values())
    rows = [
        {"at": i, "reason": names[i % 4], "location": 0x1000 * (i % 3), "owner_pid": i + 1,
         "owner_comm": f"a-long-process{i}"[:15], "sport": 40000, "dport": i + 1, "weight": 10**9}
        for i in range(40)
    ]  # fmt: skip
    maker.seal("drops", rows)
    maker.symbols()
    with open_recording(maker.finish()) as rec:
        console, out = screen()
        summary_view.show(console, rec.summary())
    lines = out.getvalue().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "TO WHOM (the first 8 of 40)" in out.getvalue()


def test_summary_of_a_quiet_recording(tmp_path: Path) -> None:
    with open_recording(Maker(tmp_path / "r").finish()) as rec:
        console, out = screen()
        summary_view.show(console, rec.summary())
    assert "Nothing was dropped, retransmitted, refused or reset." in out.getvalue()
    assert "Nothing was lost: the counts above are exact." in out.getvalue()


@pytest.mark.parametrize("damaged", ["recording.json", "drops/*.parquet", "totals/*.parquet"])
def test_summary_claims_nothing_of_what_it_could_not_read(tmp_path: Path, damaged: str) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
    maker.seal("totals", [{"at": 1, "kind": "drops", "events": 1}])
    (path,) = maker.finish().glob(damaged)
    path.write_bytes(path.read_bytes()[:-40])
    with open_recording(tmp_path / "r") as rec:
        console, out = screen()
        summary_view.show(console, rec.summary())
        assert not rec.summary().completeness[1]
    assert "Nothing was lost" not in out.getvalue()


def test_summary_says_what_is_missing(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.journal("drops", [{"at": 1, "reason": "NO_SOCKET"}])
    maker.finish(
        state="recording",
        probes=[Probe("listen/consume_skb", "listen", "", False, "no location argument")],
        notes=["The clock was set back by 3 s."],
    )
    (maker.path / "symbols").mkdir()
    (maker.path / "symbols" / "000001-20231114T221320Z.parquet").write_bytes(b"PAR1")
    with open_recording(maker.path) as rec:
        console, out = screen(200)
        summary_view.show(console, rec.summary())
    text = out.getvalue()
    assert "the recorder did not end in order" in text
    assert "1 rows come from journals" in text
    assert "not seen: listen/consume_skb: no location argument." in text
    assert "The clock was set back by 3 s." in text
    assert "Not readable" in text


def test_names_from_the_host_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.seal(
        "drops", [{"at": 1, "reason": "NO_SOCKET", "owner_comm": "\x1b[2J[red]", "owner_pid": 1}]
    )
    with open_recording(maker.finish()) as rec:
        console, out = screen()
        summary_view.show(console, rec.summary())
    assert "\x1b" not in out.getvalue()
    assert "\\x1b[2J[red][1]" in out.getvalue()


def test_info_shows_every_fact(tmp_path: Path) -> None:
    path = make_incident(tmp_path / "web-1")
    with open_recording(path) as rec:
        console, out = screen()
        info_view.show(console, rec.info())
        lines = out.getvalue().splitlines()
    assert lines[0] == "web-1"
    assert "  kernel     Linux 6.18.1, x86_64, 4 processors" in lines
    assert "  time       2023-11-14 22:13:20 to 2023-11-14 22:14:20 UTC, 60.0 s" in lines
    assert "  state      complete: the recorder ended in order (duration)" in lines
    assert "  lost       6 drops (ring full)" in lines
    assert "  probes     drops/kfree_skb: raw_tracepoint kfree_skb" in lines
    (drops,) = [line.split() for line in lines if line.startswith("  drops ")]
    assert drops[1:4] == ["5", "0", "2"]
    assert drops[6:] == ["+5.5", "s", "+40.0", "s"]


def axis(rec: Recording, width_ns: int) -> timeline_view.Axis:
    info = rec.info()
    return timeline_view.Axis(width_ns, info.origin_ns, info.span_ns)


def test_timeline_draws_a_chart_for_each_value(rec: Recording) -> None:
    console, out = screen(60)
    rows = rec.timeline(bucket="5s", table="drops", by="reason").to_arrow_table()
    timeline_view.show(console, rows, axis(rec, 5 * SECOND))
    lines = out.getvalue().splitlines()
    assert lines[0] == "TCP_LISTEN_OVERFLOW  4 events, at most 4 in a bar"
    assert lines[1] == "   █" + " " * 10
    assert lines[-1] == "  a bar is 5.0 s"
    assert lines[-2].startswith("  2023-11-14 22:13:20 UTC")
    assert lines[-2].endswith("+60.0 s")


def test_timeline_without_events(rec: Recording) -> None:
    console, out = screen()
    empty = rec.timeline(table="resets").to_arrow_table()
    timeline_view.show(console, empty, timeline_view.Axis(SECOND, 0, (0, 0)))
    assert out.getvalue() == "No events.\n"


def test_timeline_fits_the_terminal(rec: Recording) -> None:
    console, out = screen(50)
    rows = rec.timeline(bucket="100ms").to_arrow_table()
    timeline_view.show(console, rows, axis(rec, SECOND // 10))
    assert max(len(line) for line in out.getvalue().splitlines()) <= 50
    assert "  a bar is 1.3 s" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.35, "350 ms"),
        (12.34, "12.3 s"),
        (300, "5 min 0 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [(None, "-"), (0, "+0.0 s"), (99_940_000_000, "+99.9 s"), (99_960_000_000, "+1:40 min"),
     (3_723_000_000_000, "+1:02:03"), (-1_500_000_000, "-1.5 s"), (-40_000_000, "+0.0 s")],
)  # fmt: skip
def test_offsets(ns: int | None, text: str) -> None:
    assert offset(ns, 0) == text


def test_numbers() -> None:
    assert [rate(v) for v in (None, 0, 0.001, 0.217, 41.23, 12345.6)] == [
        "-", "0", "<0.01", "0.22", "41.2", "12,346",
    ]  # fmt: skip
    assert [size(v) for v in (0, 999, 1500, 161_400_000)] == ["0 B", "999 B", "1.5 kB", "161.4 MB"]


def test_bars() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([0, 1, 7], 5) == "·▂█"
    assert sparkline([1, 1, 0, 0], 2) == "▆·"
    assert bars([0, 1, 16], 2) == ["  █", " ▁█"]


def test_automatic_buckets_are_round_and_at_most_sixty() -> None:
    for seconds in (0.001, 0.5, 7, 60, 599, 3600, 86400, 10**7):
        span = round(seconds * SECOND)
        assert span <= automatic(span) * 60
    assert automatic(60 * SECOND) == 2 * SECOND
    assert automatic(59 * SECOND) == SECOND
