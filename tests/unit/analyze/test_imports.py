from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droptape.analyze import DroptapeError, import_file, open_recording
from droptape.analyze.imports.forms import Options
from droptape.analyze.imports.save import FORMS
from unit.analyze.incident import make_incident
from unit.analyze.make import SECOND, START
from unit.analyze.test_cli import run

HEY = """response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset
0.0105,0.0012,0.0000,0.0001,0.0102,0.0002,200,0.0003
0.2500,0.0012,0.0000,0.0001,0.0102,0.0002,503,5.2000
"""
K6_CSV = """metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,proto,scenario,service,status,subproto,tls_version,url,extra_tags,metadata
http_reqs,1700000001,1.000000,,,,true,,GET,http://a/,HTTP/1.1,default,,200,,,http://a/,,
http_req_duration,1700000001,12.500000,,,,true,,GET,http://a/,HTTP/1.1,default,,200,,,http://a/,,
http_req_duration,1700000002,900.000000,,dial: i/o timeout,1211,false,,GET,http://a/,,default,,0,,,http://a/,,
"""  # noqa: E501
K6_JSON = """{"type":"Metric","data":{"name":"http_req_duration"},"metric":"http_req_duration"}
{"metric":"http_req_duration","type":"Point","data":{"time":"2023-11-14T23:13:21.123456789+01:00","value":12.5,"tags":{"status":"200","url":"http://a/","expected_response":"true"}}}
{"metric":"vus","type":"Point","data":{"time":"2023-11-14T22:13:22Z","value":1,"tags":null}}
{"metric":"http_req_duration","type":"Point","data":{"time":"2023-11-14T22:13:22Z","value":900,"tags":{"status":"500","url":"http://a/"}}}
"""
WRK = """Running 30s test @ http://127.0.0.1:8080/index.html
  12 threads and 400 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   635.91us    0.89ms  12.92ms   93.69%
    Req/Sec    56.20k     8.07k   62.00k    86.54%
  Latency Distribution
     50%  250.00us
     75%  491.00us
     90%  700.00us
     99%    5.80ms
  22464 requests in 30.00s, 17.76GB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec: 748868.53
"""
WRK2 = """Running 10s test @ http://127.0.0.1:80/
  2 threads and 100 connections
  Thread calibration: mean lat.: 9747 usec, rate sampling interval: 21 msec
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.46ms    1.93ms  12.34ms   67.66%
  Latency Distribution (HdrHistogram - Recorded Latency)
 50.000%    6.67ms
 90.000%    8.90ms
 99.000%   11.06ms
100.000%   12.34ms
  Detailed Percentile spectrum:
       Value   Percentile   TotalCount 1/(1-Percentile)
       0.921     0.000000            1         1.00
  20000 requests in 10.00s, 19.87MB read
"""
WRK_CSV = "duration,requests,bytes,connect,timeout,mean,p50,p99\n2000000,500,1,1,2,1500,1000,9000\n"


@pytest.fixture
def rec(tmp_path: Path) -> Path:
    return make_incident(tmp_path / "rec")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "input"
    path.write_text(text)
    return path


def rows(rec: Path, name: str) -> list[dict[str, Any]]:
    with open_recording(rec) as opened:
        sql = f"SELECT * EXCLUDE recording, epoch_ns(ts) AS ns FROM imported_{name} ORDER BY ts"
        found = opened.sql(sql).to_arrow_table().drop_columns(["ts"]).to_pylist()
    assert isinstance(found, list)
    return found


def test_hey(rec: Path, tmp_path: Path) -> None:
    done = import_file(rec, write(tmp_path, HEY), "hey", start="+2s")
    assert (done.table, done.rows, done.inside) == ("imported_hey", 2, 2)
    first, second = rows(rec, "hey")
    assert first["ns"] == START + 2 * SECOND + 300_000
    assert (first["latency_ms"], first["failed"], first["status"]) == (10.5, 0, 200)
    assert (second["latency_ms"], second["failed"]) == (250.0, 1)


@pytest.mark.parametrize(("text", "tail"), [(K6_CSV, 0), (K6_JSON, 123456789)])
def test_k6(rec: Path, tmp_path: Path, text: str, tail: int) -> None:
    import_file(rec, write(tmp_path, text), "k6", name="load")
    first, second = rows(rec, "load")
    assert first["ns"] == START + SECOND + tail
    assert (first["latency_ms"], first["failed"], first["label"]) == (12.5, 0, "http://a/")
    assert (second["latency_ms"], second["failed"]) == (900.0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WRK, (30.0, 22464, 15, 0.63591, 0.25, 0.7, 5.8, 12.92)),
        (WRK2, (10.0, 20000, 0, 6.46, 6.67, 8.9, 11.06, 12.34)),
        (WRK_CSV, (2.0, 500, 3, 1.5, 1.0, None, 9.0, None)),
    ],
)
def test_wrk(rec: Path, tmp_path: Path, text: str, expected: tuple[Any, ...]) -> None:
    import_file(rec, write(tmp_path, text), "wrk", start="+2s")
    (row,) = rows(rec, "wrk")
    names = ("seconds", "requests", "failed", "latency_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
    assert tuple(row[n] for n in names) == pytest.approx(expected)
    assert row["ns"] == START + 2 * SECOND


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("timeStamp,elapsed,label,responseCode,success\n1700000001000,12,a,200,true\n", {}),
        ("when,took\n2023-11-14T22:13:21Z,0.012\n",
         {"time": "when", "latency": "took", "unit": "s"}),
        ("offset,latency_us\n1,12000\n", {"start": "+0s"}),
        ("\ufefftime;x,Latency (ms)\n1,2\n", None),
        ("ts,requests,p50_us,p99\n1700000001,10,12000,50\n", {}),
    ],
)  # fmt: skip
def test_any_csv(rec: Path, tmp_path: Path, text: str, options: dict[str, str] | None) -> None:
    path = write(tmp_path, text)
    if options is None:
        with pytest.raises(DroptapeError, match="no column of times"):
            import_file(rec, path, "csv")
        return
    if "timeStamp" in text:
        options = {"time": "timeStamp"}
    import_file(rec, path, "csv", **options)
    (row,) = rows(rec, "csv")
    assert row["ns"] == START + SECOND
    assert (row["latency_ms"] or row["p50_ms"]) == pytest.approx(12)


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(rec: Path, tmp_path: Path) -> None:
    import_file(rec, write(tmp_path, HEY), "hey", start="+2s")
    before = sorted(rec.rglob("*"))
    with pytest.raises(DroptapeError, match="already"):
        import_file(rec, write(tmp_path, HEY), "hey", start="+2s")
    broken = write(tmp_path, HEY + "0.1,0,0,0,0,0,200,-4\n")
    with pytest.raises(DroptapeError, match="line 4: offset is '-4'"):
        import_file(rec, broken, "hey", name="other", start="+2s")
    with pytest.raises(DroptapeError, match="--start"):
        import_file(rec, write(tmp_path, HEY), "hey", name="other")
    for name in ("../x", "X", "", "a" * 50):
        with pytest.raises(DroptapeError):
            import_file(rec, broken, "hey", name=name or " ", start="+2s")
    assert sorted(rec.rglob("*")) == before
    with open_recording(rec) as opened:
        assert [f for f in opened.verify().unexplained if f.part == "files"] == []


def test_the_file_reads_without_droptape(rec: Path, tmp_path: Path) -> None:
    done = import_file(rec, write(tmp_path, HEY), "hey", start="+2s")
    (file,) = done.path.iterdir()
    assert pq.read_table(file).column_names[:3] == ["ts_ns", "seconds", "requests"]
    assert json.loads(pq.read_metadata(file).metadata[b"droptape.table"])["name"] == "imported_hey"


def test_latency_and_drops_on_one_axis(rec: Path, tmp_path: Path) -> None:
    path = write(tmp_path, HEY)
    done = run("import", rec, path, "--as", "hey", "--start", "+2s")
    assert done.stdout == "imported_hey: 2 rows, 2 in the time of the recording\n"
    with open_recording(rec) as opened:
        found = opened.timeline(bucket="5s", beside="hey").to_arrow_table().to_pylist()
    at_five = {r["kind"]: r for r in found if r["offset"] == 5.0}
    assert at_five["drops"]["events"] == 4
    assert (at_five["hey"]["events"], at_five["hey"]["failed"]) == (1, 1)
    assert at_five["hey"]["p99_ms"] == pytest.approx(250)
    text = run("timeline", rec, "--with", "hey", "--bucket", "5s").stdout
    assert "hey 99 % latency  at most 250 ms" in text
    assert "drops" in text
    wrong = run("timeline", rec, "--with", "nothing")
    assert wrong.returncode == 2
    assert "there are: hey" in wrong.stderr
    late = run("import", rec, path, "--as", "hey", "--start", "2030-01-01", "--name", "late")
    assert "no row lies in the time" in late.stderr


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    form=st.sampled_from(sorted(FORMS)),
    base=st.sampled_from([HEY, K6_CSV, K6_JSON, WRK, WRK2, WRK_CSV, ""]),
    cut=st.integers(0, 900),
    junk=st.binary(max_size=60) | st.text(max_size=30).map(str.encode)
    | st.sampled_from([b"1e999", b"NaN", b"-1", b'"', b"\0", b"[" * 2000, b"9" * 400, b"\x1f\x8b"]),
)  # fmt: skip
def test_any_file_gives_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, form: str, base: str, cut: int, junk: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    data = base.encode()
    path.write_bytes(data[:cut] + junk + data[cut:])
    try:
        found = list(FORMS[form](path, Options(start=START)))
    except DroptapeError as exc:
        said = str(exc)
    else:
        said = ""
    if said:
        assert said.startswith(str(path))
        assert "\n" not in said
        return
    for row in found:
        assert 0 <= row.ts < 1 << 63
        assert row.requests >= 0 <= row.failed
        assert row.latency_ms is None or 0 <= row.latency_ms < 1e13
