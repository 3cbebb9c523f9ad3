from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droptape.analyze import QueryError, open_recording
from droptape.analyze.times import Landmarks, Mark, Window, instant, window
from unit.analyze.incident import make_incident
from unit.analyze.make import SECOND, START, Maker
from unit.analyze.test_cli import run

MARKS = (
    Mark(START + 10 * SECOND, "deploy v2", "ada", "r"),
    Mark(START + 20 * SECOND, "load", "ada", "r"),
    Mark(START + 30 * SECOND, "load stops", "ada", "r"),
    Mark(START + 40 * SECOND, "twice", "ada", "r"),
    Mark(START + 50 * SECOND, "twice", "ada", "r"),
)
KNOWN = Landmarks(START, START + 60 * SECOND, MARKS)


DAYS = Landmarks(START, START + 3 * 86_400 * SECOND)
MIDNIGHT = START + 6400 * SECOND


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("00:00", "23:59", (0, 86_340)), ("2023-11-15T09:00", "10:00", (32_400, 36_000)),
        ("2023-11-15T23:00", "01:00", (82_800, 90_000)), ("+10h", "22:13:20", (29_600, 80_000)),
        ("22:30", "23:00", (-5400, -3600)), ("2023-11-14", "23:00", (-86_400, -3600)),
    ],
)  # fmt: skip
def test_a_time_of_day_ends_what_began_before(
    start: str, end: str, seconds: tuple[int, int]
) -> None:
    edges = [MIDNIGHT + second * SECOND for second in seconds]
    assert window(start, end, DAYS) == Window(*edges)


@pytest.mark.parametrize(("start", "end"), [("22:13:50", "22:13:40"), ("22:13:50", "22:13:50")])
def test_what_ends_before_it_begins_is_refused(start: str, end: str) -> None:
    with pytest.raises(QueryError, match="not after"):
        window(start, end, KNOWN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+30s", 30), ("+1.5m", 90), ("+0", 0), ("-10s", 50), ("+250ms", 0.25),
        ("2023-11-14T22:13:50Z", 30), ("2023-11-14 22:13:50.25", 30.25),
        ("2023-11-14T23:13:50+01:00", 30), ("22:13:50", 30), ("22:14", 40),
        ("2023-11-14T22:13:50,25", 30.25), ("22:13:50,335", 30.335),
        ("22:13:50.000000001", 30.000000001),
        ("2023-11-14t22:13:50.123456789 UTC", 30.123456789),
        ("2023-11-14T23:13:50.5+01:00", 30.5),
        ("2023-11-14", -80_000), ("22:13:19", -1), ("22:13:18", 86_398),
        ("mark:deploy v2", 10), ("mark:DEPLOY", 10), ("mark:load", 20), ("mark:stops", 30),
        ("mark:load+5s", 25), ("mark:load - 500ms", 19.5),
    ],
)  # fmt: skip
def test_instants(text: str, seconds: float) -> None:
    assert instant(text, KNOWN) == START + round(seconds * SECOND)


@pytest.mark.parametrize(
    "text",
    ["", "30s", "+30", "yesterday", "mark:", "mark:nothing", "mark:twice", "25:00:00", "+5 years",
     "2023-13-01", "9999999-01-01", "0001-01-01T00:00:00+23:59"],
)  # fmt: skip
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(QueryError):
        instant(text, KNOWN)


@pytest.mark.parametrize(
    "text",
    ["2023-11-14.5", "2023-11-14 22:13.335", "22:13.335", "22:13:50.3350000001", "22:13:50.",
     "2023-11-14T22:13:50.3350000001", "2023-11-14T22:13:50,3350000001Z", "2023-11-14T22.5",
     "2023-11-14T22:13:50.", "2023-11-14T22:13:50.1.2", "2023-11-14T22:13:50+01:00:00.5",
     "2023-11-14T22:13:50.5+01:00:00.5"],
)  # fmt: skip
def test_no_fraction_is_dropped(text: str) -> None:
    with pytest.raises(QueryError, match="is not a time: a fraction is of seconds, and has nine"):
        instant(text, KNOWN)


def test_unknown_edges_are_said() -> None:
    for text in ("+1s", "-1s", "mark:load"):
        with pytest.raises(QueryError):
            instant(text, Landmarks(None, None))


@given(st.text(max_size=40) | st.from_regex(r"(mark:|[+-])?[0-9.]{0,20}[a-z:TZ-]{0,9}"))
def test_any_text_is_a_time_or_a_clear_error(text: str) -> None:
    with suppress(QueryError):
        assert isinstance(instant(text, KNOWN), int)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = make_incident(tmp_path / "r")
    rows: list[Mapping[str, object]] = [
        {"ts": START + 10_200_000_000, "text": "deploy", "source": "ada"}
    ]
    (tmp_path / "other").mkdir()
    Maker(tmp_path / "other" / "r").dictionary("marks", rows).parent.rename(path / "marks")
    return path


def test_a_part_of_a_recording(marked: Path) -> None:
    with open_recording(marked) as rec:
        part = rec.between("+6s", "mark:deploy")
        assert part.sql("SELECT count(*) FROM drops").fetchall() == [(1,)]
        assert part.sql("SELECT count(*) FROM retransmits").fetchall() == [(1,)]
        assert part.info().seconds == pytest.approx(4.2)
        assert part.info().origin_ns == START
        assert rec.top("kind", table="retransmits", start="mark:deploy").fetchall()[0][1] == 4
        assert [m.text for m in rec.marked()] == ["deploy"]
        assert rec.summary(end="+5.6s").kinds[0]["kind"] == "listen"
        first = rec.timeline(bucket="1s", start="+6s", end="+7s").fetchall()[0]
        assert first[1] == 6.0  # offsets are since the start of the recording, as +6s is
        with pytest.raises(QueryError, match="not after"):
            rec.between("+7s", "+6s")


def test_states_at_the_start_of_a_part(tmp_path: Path) -> None:
    made = Maker(tmp_path / "r")
    made.seal("counters", [
        {"at": at, "netns": 1, "name": name, "value": value}
        for name, steps in (("Tcp.OutSegs", ((0, 5), (10, 50), (40, 90))), ("Tcp.InSegs", [(0, 7)]))
        for at, value in steps
    ])  # fmt: skip
    with open_recording(made.finish(), start="+20s", end="+50s") as rec:
        rows = rec.sql(
            "SELECT name, value, epoch_ns(ts) FROM counters ORDER BY name, ts"
        ).fetchall()
    assert rows == [
        ("Tcp.InSegs", 7, START + 20 * SECOND),
        ("Tcp.OutSegs", 50, START + 20 * SECOND),
        ("Tcp.OutSegs", 90, START + 40 * SECOND),
    ]


def test_the_commands_take_times_and_show_marks(marked: Path) -> None:
    count = "SELECT count(*) AS n FROM drops"
    assert run("query", marked, count, "--to", "mark:deploy", "-f", "csv").stdout == "n\n2\n"
    assert run("query", marked, count, "--from", "+6s", "-f", "csv").stdout == "n\n4\n"
    assert "deploy" in run("timeline", marked).stdout
    assert "▲" in run("timeline", marked).stdout
    assert "Marks: +10.2 s deploy" in run("summary", marked).stdout
    assert "Marks" not in run("summary", marked, "--from", "+11s").stdout
    wrong = run("top", marked, "--from", "mark:no")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "droptape: there is no mark 'no'; marks: deploy\n",
    )
    refused = run("query", marked, count, "--from", "soon")
    assert refused.returncode == 2
    assert "soon" in refused.stderr
