"""Findings name the container or service of a process, where there is one and it is known."""

from __future__ import annotations

from pathlib import Path

from droptape.analyze import open_recording
from droptape.analyze.diagnosis import diagnose
from droptape.analyze.diagnosis.rules import parse_rule
from unit.analyze.rule_cases import drop, make_recording
from unit.analyze.test_diagnosis import changed


def test_where_it_happened_the_container_is_named(tmp_path: Path) -> None:
    groups = {"/a": ("4f5c", "docker", "shop"), "/b": ("9e", "crio", None), "/s": ("db.service",
              "systemd", None), "/u": ("session-1.scope", "systemd", None),
              "/s/x": ("db.service", "systemd", None)}  # fmt: skip
    cgroups = [
        {"id": i, "path": path, "container": container, "runtime": runtime, "name": name}
        for i, (path, (container, runtime, name)) in enumerate(groups.items())
    ]
    of: dict[int, list[str | None]]
    of = {1: ["/a", "/a"], 2: ["/b"], 3: ["/s"], 4: ["/u"], 5: ["/none"], 6: [None],
          7: ["/a", "/b"]}  # fmt: skip
    processes = [{"pid": pid, "cgroup": path} for pid, paths in of.items() for path in paths]
    rows = [drop("TCP_FLAGS", netns=n, owner_comm="x", owner_pid=n) for n in range(1, 9)]
    path = make_recording(
        tmp_path / "r", {"drops": rows, "processes": processes, "cgroups": cgroups}
    )
    rule = changed("AS owner_comm", "AS owner_comm, max(owner_pid) AS owner_pid")
    rule = rule.replace("{owner_comm}.", "{owner}.").replace("Odd.", "Odd of {owner}.")
    with open_recording(path) as rec:
        found = {f.netns: f for f in diagnose(rec, [parse_rule("odd", rule)]).findings}
    named = {1: " in container shop", 2: " in container 9e", 3: " of db.service"}
    for pid, finding in found.items():
        owner = f"x[{pid}]{named.get(pid or 0, '')}"
        assert finding.title == f"1 packet with TCP_FLAGS of {owner}"
        assert finding.evidence == (f"One row of {owner}.",)
        assert finding.meaning == f"Odd of x[{pid}]."
    assert len(found) == 8
