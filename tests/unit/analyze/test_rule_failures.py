from __future__ import annotations

import json
from pathlib import Path

import pytest

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import RuleError, diagnose, load_rules
from unit.analyze.rule_cases import OWNER, drop, make_recording, refused, sysctl
from unit.analyze.test_cli import run

SETTINGS = (
    "net.core.somaxconn", "net.core.rmem_default", "net.core.rmem_max",
    "net.core.netdev_max_backlog", "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_max_syn_backlog",
)  # fmt: skip
BROKEN = """# Broken
needs: drops
healthy: nothing

## Query
```sql
SELECT 'warning' AS severity, max(reason)::INTEGER AS events FROM drops
```
## Title
A title.
## Evidence
Some.
## Look
```sql
FROM drops
```
## Meaning
It means.
## Remedy
Do it.
## Proof
Done.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tables = {
        "listen": [refused("accept_queue_full", 70)],
        "drops": [drop("SOCKET_RCVBUFF", 40, protocol="UDP", dport=53, rcvbuf=212992, **OWNER)],
        "sysctls": [sysctl(name, "max\x1b[31m") for name in SETTINGS],
    }
    return make_recording(tmp_path / "r", tables)


def test_a_setting_that_is_no_number_hides_no_finding(path: Path, tmp_path: Path) -> None:
    with open_recording(path) as rec:
        found = rec.diagnose()
    assert {"accept_queue", "udp_receive_buffer"} <= {one.id for one in found.findings}
    assert not [check for check in found.checks if "failed" in check.why]
    assert run("bundle", path, "-o", tmp_path / "x.droptape").returncode == 0


def test_a_rule_that_fails_is_named_and_the_others_answer(path: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "broken.md").write_text(BROKEN)
    done = run("diagnose", path, "--rules", tmp_path / "rules")
    assert done.returncode == 0
    assert "broken: not checked: the rule failed: Could not convert" in " ".join(
        done.stdout.split()
    )
    assert "WARNING" in done.stdout or "CRITICAL" in done.stdout
    data = json.loads(run("diagnose", path, "--rules", tmp_path / "rules", "-f", "json").stdout)
    failed = [check for check in data["checks"] if check["id"] == "broken"]
    assert [check["status"] for check in failed] == ["not checked"]


def test_nothing_is_not_said_when_every_rule_failed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "broken.md").write_text(BROKEN)
    rules = [rule for rule in load_rules([tmp_path / "rules"]) if rule.id == "broken"]
    with open_recording(path) as rec, pytest.raises(RuleError, match="rule broken: Could not"):
        diagnose(rec, rules)
