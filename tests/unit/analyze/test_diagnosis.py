"""The engine of `droptape diagnose`: reading rules, filling texts, being honest, showing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from droptape.analyze import Recording, open_recording
from droptape.analyze.app import app
from droptape.analyze.diagnosis import RuleError, diagnose, load_rules
from droptape.analyze.diagnosis.rules import parse_rule
from droptape.analyze.diagnosis.text import fill
from droptape.analyze.render.diagnosis import show
from droptape.format.manifest import Probe
from droptape.format.tables import NETNS_NAMES
from unit.analyze.rule_cases import NETNS, OWNER, Tables, drop, make_recording, refused, sysctl

OF_DROPS = [rule for rule in load_rules() if rule.tables == ("drops",)]

RULE = """\
# Odd packets

needs: drops.reason
healthy: No odd packets.

## Thresholds

- many = 5: fewer are nothing

## Query

```sql
SELECT netns, reason, sum(weight)::BIGINT AS events, max(owner_comm) AS owner_comm,
    count(*) > 1 AS several,
    CASE WHEN sum(weight) >= $many THEN 'warning' ELSE 'info' END AS severity
FROM drops GROUP BY netns, reason
```

## Title

{events:n packet} with {reason} of {owner}

## Evidence

- [several] Several rows.
- [not several] One row of {owner_comm}.

## Look

```sql
SELECT * FROM drops WHERE reason = {reason} AND netns = {netns}
```

## Meaning

Odd.

## Remedy

- Look at it.

      {in_ns}look --at {owner_comm} {{}}

## Proof

Gone.
"""


def changed(old: str, new: str) -> str:
    assert old in RULE
    return RULE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line"),
        (changed("# Odd", "Odd"), "first line"),
        (changed("needs: drops.reason\n", ""), "no line 'needs"),
        (changed("healthy: No odd packets.\n", ""), "no line 'healthy"),
        (changed("healthy:", "hale:"), "'hale: No odd packets.' is none of"),
        (changed("## Title", "## Titel"), "'## Titel' is not a section"),
        (changed("## Proof\n\nGone.\n", ""), "section '## Proof' is missing"),
        (changed("Gone.\n", ""), "section '## Proof' is missing or empty"),
        (changed("## Proof", "## Title"), "comes twice"),
        (changed("- many = 5: fewer", "- many: fewer"), "a threshold is"),
        (changed("$many", "5"), "threshold many is not used"),
        (changed("$many", "$lots"), "uses \\$lots, which is no threshold"),
        (changed("{reason} of", "{reason of"), "a brace stands alone"),
        (changed("{events:n packet}", "{events:m}"), "not written in a known way"),
        (changed("```sql\nSELECT * FROM", "SELECT * FROM"), "'## Look' has to be one block"),
        (changed("Odd.\n", "Odd.\n\n      reboot\n"), "only Remedy and Proof have commands"),
    ],
)
def test_a_rule_that_is_not_well_formed(text: str, message: str) -> None:
    with pytest.raises(RuleError, match=f"rule odd: .*{message}"):
        parse_rule("odd", text)


def test_a_name_that_is_not_well_formed() -> None:
    with pytest.raises(RuleError, match="small letters"):
        parse_rule("Odd-Packets", RULE)


@pytest.fixture
def rec(tmp_path: Path) -> Recording:
    rows = [drop("TCP_FLAGS", 6, owner_comm="it's; $(rm)")]
    return open_recording(make_recording(tmp_path / "r", {"drops": rows}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("{reason} of", "{raison} of"), "the query gives no column raison"),
        (changed("[several] Several", "[sundry] Several"), "the query gives no column sundry"),
        (changed(" AS events", " AS n"), "the query gives no column events"),
        (changed("'warning'", "'fatal'"), "severity is 'fatal'"),
        (changed("GROUP BY netns, reason\n```", "GROUP BY\n```"), "syntax error"),
        (changed("count(*) > 1", "reason::INTEGER > 1"), "Conversion|convert|cast"),
    ],
)
def test_a_rule_whose_query_is_wrong(rec: Recording, text: str, message: str) -> None:
    with rec, pytest.raises(RuleError, match=f"rule odd: .*(?:{message})"):
        diagnose(rec, [parse_rule("odd", text)])


def test_a_query_that_writes_is_refused(rec: Recording) -> None:
    text = changed("FROM drops GROUP BY netns, reason\n", "FROM read_csv('/etc/passwd')\n")
    with rec, pytest.raises(RuleError, match="read_csv"):
        diagnose(rec, [parse_rule("odd", text)])


def test_texts_are_filled_and_values_are_not_trusted(rec: Recording) -> None:
    with rec:
        (found,) = diagnose(rec, [parse_rule("odd", RULE)]).findings
        assert found.title == "6 packets with TCP_FLAGS of it's; $(rm)"
        assert found.evidence == ("One row of it's; $(rm).",)
        assert found.severity == "warning"
        assert found.remedy[0].commands == ("""look --at 'it'"'"'s; $(rm)' {}""",)
        assert found.query == f"SELECT * FROM drops WHERE reason = 'TCP_FLAGS' AND netns = {NETNS}"
        assert len(rec.sql(found.query).fetchall()) == 1


def test_fill() -> None:
    values = {"n": 1, "m": 1200, "x": 2.0, "none": None, "t": "a\x1b[31m'b"}
    assert fill("{n:n query/queries}, {m:n query/queries}, {m:n}, {m}", values) == (
        "1 query, 1,200 queries, 1,200, 1200"
    )
    assert (
        fill("{m:size} {x} {x:percent} {none} {t}", values) == r"1.2 kB 2 2.0 % unknown a\x1b[31m'b"
    )
    assert fill("{t} {none}", {"t": "a'b", "none": None}, "sql") == "'a''b' NULL"
    assert fill("{t}", {"t": "a b"}, "command") == "'a b'"


def test_unknown_values_are_asked_for_as_null(tmp_path: Path) -> None:
    rows = [drop("TCP_FLAGS", netns=None)]
    with open_recording(make_recording(tmp_path / "r", {"drops": rows})) as rec:
        (found,) = diagnose(rec, [parse_rule("odd", RULE)]).findings
        assert found.query.endswith("netns IS NULL")
        assert rec.sql(found.query).fetchall()


def test_commands_run_where_the_trouble_is(tmp_path: Path) -> None:
    rows = [drop("TCP_FLAGS", netns=n, owner_comm="x") for n in (NETNS, *range(7, 12))]
    names = [
        ("web 1", 7, 12, "ip"), (None, 7, None), (None, 8, 34), ("shop", 10, 56, "process"),
        ("a1b2", 11, None, "docker"),
    ]  # fmt: skip
    path = make_recording(tmp_path / "r", {"drops": rows}, names=names)
    with open_recording(path) as rec:
        found = diagnose(rec, [parse_rule("odd", RULE)]).findings
    commands = {f.netns: f.remedy[0].commands[0] for f in found}
    assert commands == {
        NETNS: "look --at x {}",
        7: "ip netns exec 'web 1' look --at x {}",
        8: "nsenter -t 34 -n look --at x {}",
        9: "nsenter --net=/proc/PID/ns/net look --at x {}",
        10: "nsenter -t 56 -n look --at x {}",
        11: "nsenter --net=/proc/PID/ns/net look --at x {}",
    }


def test_of_older_recordings_a_name_is_taken_for_one_of_ip_netns(tmp_path: Path) -> None:
    older = replace(NETNS_NAMES, columns=NETNS_NAMES.columns[:-1])
    assert NETNS_NAMES.columns[-1].name == "source"
    rows = {"drops": [drop("TCP_FLAGS", netns=7)]}
    path = make_recording(
        tmp_path / "r", rows, names=[("blue", 7, 12, "?")], declared={"netns": older}
    )
    with open_recording(path) as rec:
        (found,) = diagnose(rec, [parse_rule("odd", RULE)]).findings
    assert found.remedy[0].commands[0].startswith("ip netns exec blue ")


def test_rules_of_ones_own(tmp_path: Path, rec: Recording) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "odd.md").write_text(RULE)
    (folder / "other_drops.md").write_text(changed("# Odd packets", "# In its place"))
    with rec:
        diagnosis = rec.diagnose([folder])
        assert {"odd", "other_drops"} <= {finding.id for finding in diagnosis.findings}
        titles = {check.title for check in diagnosis.checks}
        assert "In its place" in titles
        with pytest.raises(RuleError, match="is not a folder"):
            rec.diagnose([tmp_path / "nothing"])


def statuses(rec: Recording) -> dict[str, tuple[str, str]]:
    return {check.id: (check.status, check.why) for check in rec.diagnose().checks}


def test_what_was_not_recorded_is_not_called_healthy(tmp_path: Path) -> None:
    path = make_recording(tmp_path / "r", {}, without=("drops", "counters", "connections"))
    with open_recording(path) as rec:
        found = statuses(rec)
    assert found["firewall"] == ("not checked", "this recording has no drops")
    assert found["conntrack_full"] == ("not checked", "this recording has no counters")
    assert found["slow_reader"] == ("not checked", "this recording has no connections")
    assert found["accept_queue"] == ("healthy", "")


def test_a_kernel_without_reasons(tmp_path: Path) -> None:
    rows = [drop(None, 20, protocol="UDP", location=0x10)]
    with open_recording(make_recording(tmp_path / "r", {"drops": rows}, reasons=())) as rec:
        found = statuses(rec)
    assert found["bad_checksums"] == ("not checked", "this kernel gives no reasons for drops")
    assert found["udp_receive_buffer"][0] == "healthy"


def test_losses_and_missing_probes_are_said(tmp_path: Path) -> None:
    lost = [{"at": 1, "kind": "listen", "cause": "ring_full", "events": 7}]
    sampled = [{"at": 1, "kind": "resets", "cause": "sampled", "events": 9}]
    missing = [Probe("drops/kfree_skb", "drops", "", False, "not allowed")]
    tables: Tables = {"losses": [*lost, *sampled], "listen": [refused("accept_queue_full", 9)]}
    with open_recording(make_recording(tmp_path / "r", tables, probes=missing)) as rec:
        diagnosis = rec.diagnose()
        found = statuses(rec)
    doubt = "7 events of listen could not be recorded: numbers are lower bounds."
    assert found["syn_queue"] == ("partly", doubt)
    assert found["resets_received"] == (
        "partly", "Rows of resets are a sample: numbers are estimates."
    )  # fmt: skip
    assert found["firewall"] == ("partly", "Not watched: drops/kfree_skb (not allowed).")
    assert diagnosis.findings[0].notes == (doubt,)


def test_older_recordings_lack_columns(tmp_path: Path) -> None:
    """A rule that needs a column that the recording does not have is left out, and says so."""
    with open_recording(make_recording(tmp_path / "r", {})) as rec:
        rule = parse_rule("odd", changed("max(owner_comm)", "max(owner_shoe_size)"))
        (check,) = diagnose(rec, [rule]).checks
    assert check.status == "not checked"
    assert "owner_shoe_size" in check.why


GOLDEN = Path(__file__).with_name("diagnosis.txt")


def trouble(folder: Path) -> Path:
    return make_recording(
        folder,
        {
            "listen": [
                refused("accept_queue_full", 70),
                refused("ack_dropped", 5, sport=51035),
            ],
            "drops": [
                drop("SOCKET_RCVBUFF", 40, protocol="UDP", dport=53, rcvbuf=212992, **OWNER),
                drop("NO_SOCKET", 3, dport=9999),
            ],
            "sysctls": [
                sysctl("net.core.somaxconn", "128"),
                sysctl("net.core.rmem_default", "212992"),
                sysctl("net.core.rmem_max", "212992"),
                sysctl("net.ipv4.tcp_abort_on_overflow", "1"),
            ],
        },
    )


def shown(rec: Recording, width: int = 100, **options: bool) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width), rec.diagnose(), ["rec"], **options)
    return out.getvalue().splitlines()


def test_two_findings_on_the_terminal(tmp_path: Path) -> None:
    with open_recording(trouble(tmp_path / "r")) as rec:
        lines = shown(rec)
    expected = GOLDEN.read_text().splitlines()
    assert lines[: len(expected)] == expected
    assert "Checked and found healthy" in lines
    assert all(line == line.rstrip() for line in lines)


def test_prose_fits_the_terminal_and_commands_are_whole(tmp_path: Path) -> None:
    with open_recording(trouble(tmp_path / "r")) as rec:
        lines = shown(rec, 60)
    assert all(len(line) <= 60 or "droptape query" in line for line in lines)
    assert "       sysctl -w net.core.rmem_default=4194304" in lines


def test_nothing_wrong(tmp_path: Path) -> None:
    with open_recording(make_recording(tmp_path / "r", {})) as rec:
        lines = shown(rec)
    assert f"Nothing wrong here: {len(load_rules())} kinds of trouble were looked for." in lines
    for rule in load_rules():
        assert any(rule.healthy[:60] in line for line in lines), rule.id


def test_notices_in_full_when_asked_for(tmp_path: Path) -> None:
    with open_recording(trouble(tmp_path / "r")) as rec:
        lines = shown(rec, in_full=True)
    assert "NOTICE  3 packets for TCP port 9999, where nobody listens" in lines
    assert not any(line.startswith("Also seen") for line in lines)


def test_many_of_one_kind_are_counted(tmp_path: Path) -> None:
    listen = [refused("accept_queue_full", 70, lport=port) for port in range(8000, 8010)]
    with open_recording(make_recording(tmp_path / "r", {"listen": listen})) as rec:
        lines = shown(rec)
    assert sum(line.startswith("CRITICAL") for line in lines) == 3
    assert (
        "7 more findings like the last of accept_queue (490 events); --format json has all."
        in lines
    )


def test_a_killed_recorder_and_doubts_are_shown(tmp_path: Path) -> None:
    lost = [{"at": 1, "kind": "listen", "cause": "ring_full", "events": 7}]
    path = make_recording(tmp_path / "r", {"losses": lost}, state="recording", ended_ns=None)
    with open_recording(path) as rec:
        text = "\n".join(shown(rec, 200))
    assert "the recorder did not end in order" in text
    named = "accept queue, syn queue, syn unanswered: partly"
    assert f"{named}: 7 events of listen could not be recorded" in text


def test_the_command(tmp_path: Path) -> None:
    path = str(trouble(tmp_path / "r"))
    run = CliRunner().invoke(app, ["diagnose", path, "-f", "json"])
    assert run.exit_code == 0
    answer = json.loads(run.output)
    assert [f["id"] for f in answer["findings"]] == [
        "accept_queue", "udp_receive_buffer", "closed_port",
    ]  # fmt: skip
    assert {"recordings", "findings", "checks", "problems"} == answer.keys()
    assert answer["findings"][0]["values"]["backlog"] == 128
    run = CliRunner().invoke(app, ["diagnose", path, "--min-severity", "warning", "-f", "csv"])
    assert run.output.count("\nr,") == 2
    run = CliRunner().invoke(app, ["diagnose", path, "--min-severity", "fatal"])
    assert run.exit_code == 2


def test_the_shown_query_runs_in_a_shell(tmp_path: Path) -> None:
    path = trouble(tmp_path / "it's $here")
    with open_recording(path) as rec:
        out = io.StringIO()
        show(Console(file=out, width=100), rec.diagnose(), [str(path)])
    line = next(text for text in out.getvalue().splitlines() if "droptape query" in text)
    command = line.strip().replace("droptape", f"{sys.executable} -m droptape.analyze.cli", 1)
    run = subprocess.run(
        ["sh", "-c", command + " -f csv"], capture_output=True, text=True, check=True
    )
    assert run.stdout.count("accept_queue_full") == 1
