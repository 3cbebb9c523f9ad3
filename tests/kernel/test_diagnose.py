"""Every rule finds its trouble when it really happens, and nothing on a healthy load."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from droptape.analyze import Recording, open_recording
from droptape.analyze.diagnosis import Diagnosis, load_rules
from kernel.troubles import TROUBLES, Expected, Stage
from lab import Lab, LabError
from lab.healthy import busy
from lab.recorder import Recorder
from lab.unseen import Unseen

pytestmark = pytest.mark.timeout(300)

NOT_MADE_HERE = {
    "cpu_backlog": "its limit is the whole host's",
}
"""Rules without a trouble here, and why; unit tests hold them."""
AGAIN = 6
"""How often a trouble is made once more, because the kernel hid events of it from BPF."""


@dataclass
class Scene:
    """All troubles after each other under one recorder, and the diagnosis of that."""

    recording: Recording
    diagnosis: Diagnosis
    expected: dict[str, Expected] = field(default_factory=dict)
    spaces: dict[str, set[int]] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scene(kernel: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("diagnosed") / "rec"
    events = "drops,listen,resets,retransmits,connections"
    expected: dict[str, Expected] = {}
    spaces: dict[str, set[int]] = {}
    failed: dict[str, Exception] = {}
    with Lab() as lab, contextlib.ExitStack() as wires:
        wanted = 2 * (len(TROUBLES) + AGAIN + 1)
        spare = iter([lab.host(f"h{number}") for number in range(wanted)])
        again = AGAIN
        with Recorder(folder, "--events", events) as recorder:
            for name, make in TROUBLES.items():
                while True:
                    stage = Stage(lab, spare, wires)
                    with Unseen() as unseen:
                        try:
                            expected[name] = make(stage)
                        except (LabError, OSError) as error:
                            failed[name] = error
                        hidden = unseen.events
                    if not hidden or not again:
                        break
                    print(f"{name}: made again; BPF was not shown {hidden[0]}")
                    failed.pop(name, None)
                    again -= 1
                spaces[name] = {host.inum for host in stage.hosts}
            stage = Stage(lab, spare, wires)
            server, client, link = stage.pair()
            busy(server, client, link.address(server))
            spaces["healthy"] = {server.inum, client.inum}
            recorder.stop()
    with open_recording(folder) as recording:
        yield Scene(recording, recording.diagnose(), expected, spaces, failed)


def _expected(scene: Scene, name: str) -> Expected:
    error = scene.failed.get(name)
    if error is not None and os.environ.get("DROPTAPE_REQUIRE_KERNEL") != "1":
        pytest.skip(str(error))
    if error is not None:
        raise error
    return scene.expected[name]


@pytest.mark.parametrize("name", TROUBLES)
def test_the_trouble_is_found(scene: Scene, name: str) -> None:
    expected = _expected(scene, name)
    (finding,) = [
        f
        for f in scene.diagnosis.findings
        if f.id == expected.rule and f.netns == expected.host.inum
    ]
    assert {k: finding.values[k] for k in expected.values} == expected.values
    assert finding.severity == expected.severity
    assert scene.recording.sql(finding.query).fetchall()
    texts = [finding.title, finding.meaning, *finding.evidence, finding.proof.text]
    assert all(texts)
    assert finding.remedy
    assert "unknown" not in " ".join(c for s in finding.remedy for c in s.commands)


@pytest.mark.parametrize("name", TROUBLES)
def test_one_trouble_is_one_finding(scene: Scene, name: str) -> None:
    expected = _expected(scene, name)
    severe = {f.id for f in scene.diagnosis.at_least("warning") if f.netns in scene.spaces[name]}
    assert severe <= {expected.rule, *expected.beside}


def test_a_healthy_load_is_left_alone(scene: Scene) -> None:
    found = [
        (f.id, f.title)
        for f in scene.diagnosis.at_least("warning")
        if f.netns in scene.spaces["healthy"]
    ]
    assert found == []


def test_every_rule_has_its_trouble(scene: Scene) -> None:
    made = {expected.rule for expected in scene.expected.values()}
    failed = set(scene.failed)
    assert {rule.id for rule in load_rules()} - made - NOT_MADE_HERE.keys() - failed == set()
