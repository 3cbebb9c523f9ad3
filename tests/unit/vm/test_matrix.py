from __future__ import annotations

from pathlib import Path

from vm.matrix import Result, read_tests, table

REPORT = """<testsuites><testsuite>
<testcase classname="kernel.test_listen" name="test_one"/>
<testcase classname="kernel.test_listen" name="test_two"><failure message="no"/></testcase>
<testcase classname="kernel.test_drops" name="test_three"><skipped message="no reasons"/></testcase>
</testsuite></testsuites>"""


def probe(name: str, mechanism: str, note: str = "") -> dict[str, object]:
    return {"name": name, "mechanism": mechanism, "attached": bool(mechanism), "note": note}


def test_results_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(REPORT)
    result = Result("5.10.0")
    read_tests(result, tmp_path / "tests.xml")
    assert (result.passed, result.failed) == (1, ["kernel.test_listen::test_two"])
    assert result.skipped == {"no reasons": 1}
    assert not result.good


def test_no_report_is_a_problem(tmp_path: Path) -> None:
    result = Result("5.10.0", passed=3)
    read_tests(result, tmp_path / "tests.xml")
    assert not result.good


def test_the_table_names_mechanisms_and_what_is_missing() -> None:
    result = Result("5.10.0", passed=2)
    result.facts["probes"] = [
        probe("drops/kfree_skb", "raw_tracepoint kfree_skb", "no reasons"),
        probe("listen/syn", "", "no such function"),
    ]
    text = table([result])
    assert "| 5.10.0 | raw_tracepoint kfree_skb | **missing**: no such function |" in text
    assert "- 5.10.0: lacks (drops/kfree_skb): no reasons" in text
    assert result.good
