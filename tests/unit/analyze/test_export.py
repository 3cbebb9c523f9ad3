"""Exports: a timeline in the trace event format, counters in OpenMetrics."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from droptape.analyze import ExportFormat, QueryError, Recording, open_recording
from droptape.analyze.export import openmetrics
from unit.analyze.incident import SERVER
from unit.analyze.make import START, Maker

RECORDINGS = Path(__file__).parents[3] / "notebooks" / "recordings"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def shop() -> Iterator[Recording]:
    with open_recording(RECORDINGS / "incident") as rec:
        yield rec


def timeline(rec: Recording, path: Path, **options: Any) -> dict[str, Any]:
    rec.export("perfetto", path, **options)
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def samples(rec: Recording, path: Path, **options: Any) -> dict[str, list[Any]]:
    rec.export(ExportFormat.OPENMETRICS, path, **options)
    text = path.read_text()
    assert text.endswith("# EOF\n")
    parse: Any = text_string_to_metric_families
    return {family.name: list(family.samples) for family in parse(text)}


def totals(rec: Recording) -> dict[str, int]:
    rows = rec.sql("SELECT kind, sum(events)::BIGINT FROM totals GROUP BY kind").fetchall()
    return {kind: events for kind, events in rows if events}


# --- the timeline -----------------------------------------------------------------------------

REQUIRED = {"M": {"args"}, "i": {"ts", "s"}, "C": {"ts", "args"}}


def test_every_item_is_of_the_trace_event_format(shop: Recording, tmp_path: Path) -> None:
    document = timeline(shop, tmp_path / "t.json")
    assert document["displayTimeUnit"] in ("ms", "ns")
    seconds = shop.info().seconds
    for item in document["traceEvents"]:
        assert {"name", "ph", "pid"} | REQUIRED[item["ph"]] <= item.keys()
        assert isinstance(item["name"], str)
        assert isinstance(item["pid"], int)
        if item["ph"] != "M":
            assert 0 <= item["ts"] <= (seconds + 1) * 1e6
        if item["ph"] == "i":
            assert item["s"] in ("g", "p", "t")
            assert isinstance(item["tid"], int)
        if item["ph"] == "C":
            assert all(isinstance(value, int | float) for value in item["args"].values())


def test_every_track_has_a_name_before_it_is_used(shop: Recording, tmp_path: Path) -> None:
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    used: dict[str, set[str]] = defaultdict(set)
    for item in timeline(shop, tmp_path / "t.json")["traceEvents"]:
        if item["name"] == "process_name":
            assert item["pid"] not in processes
            processes[item["pid"]] = item["args"]["name"]
        elif item["name"] == "thread_name":
            threads[item["pid"], item["tid"]] = item["args"]["name"]
        elif item["ph"] == "i":
            used[processes[item["pid"]]].add(threads[item["pid"], item["tid"]])
        elif item["ph"] == "C":
            assert item["pid"] in processes
    assert used.keys() == {"marks", "drops", "listen", "retransmits", "resets", "connections"}
    assert any(track.startswith("telemetry[") for track in used["drops"])
    assert "no process known" in used["resets"]


def test_instants_are_the_rows_and_counters_the_exact_counts(
    shop: Recording, tmp_path: Path
) -> None:
    items = timeline(shop, tmp_path / "t.json")["traceEvents"]
    instants = Counter(item["cat"] for item in items if item["ph"] == "i")
    rows = dict(shop.sql("SELECT kind, count(*) FROM events GROUP BY kind").fetchall())
    assert instants == {**rows, "mark": 2}
    names = {i["pid"]: i["args"]["name"] for i in items if i["name"] == "process_name"}
    counted: Counter[str] = Counter()
    for item in items:
        if item["ph"] == "C" and "events" in item["args"]:
            counted[names[item["pid"]]] += item["args"]["events"]
    assert counted == totals(shop)


def test_a_counter_falls_to_zero_when_nothing_was_counted(shop: Recording, tmp_path: Path) -> None:
    items = timeline(shop, tmp_path / "t.json")["traceEvents"]
    series = [i for i in items if i["ph"] == "C" and i["name"] == "SOCKET_RCVBUFF per second"]
    assert [i["ts"] for i in series] == sorted(i["ts"] for i in series)
    assert series[-1]["args"] == {"events": 0}
    assert series[-1]["ts"] - series[-2]["ts"] == pytest.approx(1e6)


def test_an_instant_says_what_happened_to_whom_when(rec: Recording, tmp_path: Path) -> None:
    items = timeline(rec, tmp_path / "t.json")["traceEvents"]
    (found,) = [i for i in items if i.get("ts") == 5_500_000 and i["name"] == "TCP_LISTEN_OVERFLOW"]
    assert found["args"] == {
        "flow": "10.0.0.7:51034 > 10.0.0.2:8080",
        "function": "tcp_v4_rcv+0x8c",
        "owner_source": SERVER["owner_source"],
        "container": "auction",
        "netns": "host",
    }
    (weighty,) = [i for i in items if i.get("ts") == 6_250_000 and i["cat"] == "drops"]
    assert weighty["args"]["events"] == 3


def test_the_queue_is_drawn_with_its_limit(shop: Recording, tmp_path: Path) -> None:
    items = timeline(shop, tmp_path / "t.json")["traceEvents"]
    queue = [i for i in items if i["name"] == "0.0.0.0:8080 auction-server"]
    assert {item["args"]["limit"] for item in queue} == {8}
    assert max(item["args"]["waiting"] for item in queue) >= 8


@pytest.mark.parametrize("limit", [1, 100, 1000])
def test_it_is_bounded_and_says_so(shop: Recording, tmp_path: Path, limit: int) -> None:
    done = shop.export("perfetto", tmp_path / "t.json", max_events=limit)
    rows = shop.sql("SELECT count(*) FROM events").fetchall()[0][0]
    causes = shop.sql("SELECT count(*) FROM (SELECT DISTINCT kind, cause FROM events)").fetchall()
    assert done.every == -(-rows // limit)
    assert 0 < done.items <= limit + causes[0][0]
    assert f"one of {done.every} events" in done.note
    document = json.loads((tmp_path / "t.json").read_text())
    assert str(done.every) in document["otherData"]["events"]
    instants = [i for i in document["traceEvents"] if i["ph"] == "i" and i["cat"] != "mark"]
    assert len(instants) == done.items
    assert {i["args"]["one of"] for i in instants} == {done.every}
    # The rarest cause is there too.
    assert len({(i["cat"], i["name"]) for i in instants}) == causes[0][0]


def test_a_part_of_the_time_and_several_recordings(shop: Recording, tmp_path: Path) -> None:
    marks = ("mark:firewall rule deployed", "mark:firewall rule removed")
    part = timeline(shop, tmp_path / "p.json", start=marks[0], end=marks[1])["traceEvents"]
    assert 0 < sum(i["ph"] == "i" for i in part) < 400
    with open_recording(RECORDINGS / "before", RECORDINGS / "after") as two:
        items = timeline(two, tmp_path / "t.json", max_events=200)["traceEvents"]
    names = {i["args"]["name"] for i in items if i["name"] == "process_name"}
    assert names >= {"before: listen", "before: drops", "after: connections"}


# --- counters ---------------------------------------------------------------------------------


def test_counters_end_at_the_exact_counts(shop: Recording, tmp_path: Path) -> None:
    found = samples(shop, tmp_path / "m.txt")["droptape_events"]
    last = {tuple(sorted(s.labels.items())): s for s in found}
    counted: Counter[str] = Counter()
    for sample in last.values():
        counted[sample.labels["kind"]] += int(sample.value)
    assert counted == totals(shop)


def test_they_start_at_zero_and_never_fall(shop: Recording, tmp_path: Path) -> None:
    info = shop.info().recordings[0]
    series: dict[tuple[tuple[str, str], ...], list[Any]] = defaultdict(list)
    for sample in samples(shop, tmp_path / "m.txt")["droptape_events"]:
        series[tuple(sorted(sample.labels.items()))].append(sample)
    for points in series.values():
        values = [p.value for p in points]
        times = [p.timestamp.sec * SECOND + p.timestamp.nsec for p in points]
        assert values[0] == 0
        assert values == sorted(values)
        assert times == sorted(set(times)), "a time twice"
        assert times[0] <= (info.started_ns or 0)
        assert times[-1] >= (info.ended_ns or 0) - 1_000_000


def test_what_stands_still_is_said_again_and_moves_in_one_second() -> None:
    start, end = 0, 400 * SECOND
    points = list(openmetrics._cumulated([(10 * SECOND, 5), (200 * SECOND, 2)], start, end))
    assert [(at // SECOND, value) for at, value in points] == [
        (0, 0), (9, 0), (10, 5), (70, 5), (130, 5), (190, 5), (199, 5), (200, 7), (260, 7),
        (320, 7), (380, 7), (400, 7),
    ]  # fmt: skip


def test_losses_queues_and_the_recording_itself(
    rec: Recording, shop: Recording, tmp_path: Path
) -> None:
    found = samples(rec, tmp_path / "m.txt")
    lost = found["droptape_lost_events"][-1]
    assert (lost.labels["kind"], lost.labels["cause"], lost.value) == ("drops", "ring_full", 6)
    (about,) = found["droptape_recording"]
    assert about.labels["host"] == "web-1"
    assert about.timestamp.sec == START // SECOND
    limits = samples(shop, tmp_path / "s.txt")["droptape_accept_queue_limit"]
    assert {s.value for s in limits if s.labels["lport"] == "8080"} == {8}


def test_odd_names_are_escaped(tmp_path: Path) -> None:
    maker = Maker(tmp_path / 'a"b\\c')
    row = {"at": 3, "kind": "drops", "cause": "NO_SOCKET", "events": 2, "recorded": 2}
    maker.seal("totals", [row])
    with open_recording(maker.finish()) as rec:
        found = samples(rec, tmp_path / "m.txt")["droptape_events"]
    assert {s.labels["recording"] for s in found} == {'a"b\\c'}


def test_a_recording_with_nothing_in_it(tmp_path: Path) -> None:
    with open_recording(Maker(tmp_path / "none").finish()) as rec:
        assert rec.export("openmetrics", tmp_path / "m").items == 1
        assert timeline(rec, tmp_path / "t")["traceEvents"] == []


# --- asking for them --------------------------------------------------------------------------


def test_errors(rec: Recording, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no export to svg; there are: perfetto, openmetrics"):
        rec.export("svg")
    with pytest.raises(QueryError, match="cannot be written"):
        rec.export("perfetto", tmp_path / "no" / "t.json")
    with pytest.raises(QueryError, match="at least one"):
        rec.export("perfetto", tmp_path / "t.json", max_events=0)


def test_without_a_file_it_goes_to_standard_output(
    rec: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    rec.export("openmetrics")
    assert capsys.readouterr().out.endswith("# EOF\n")


def test_the_command(tmp_path: Path) -> None:
    def run(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "droptape.analyze.cli", "export", *map(str, args)],
            capture_output=True, text=True, env=ENV, check=False, timeout=60,
        )  # fmt: skip

    incident = RECORDINGS / "incident"
    target = tmp_path / "t.json"
    done = run(incident, "--to", "perfetto", "-o", target, "--max-events", 100)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("droptape: one of ")
    assert json.load(io.StringIO(target.read_text()))["traceEvents"]
    piped = run(incident, "--to", "openmetrics", "--from", "+10s", "--until", "+20s")
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.endswith("# EOF\n")
    assert run(incident, "--to", "svg").returncode == 2
    assert run(incident).returncode == 2
