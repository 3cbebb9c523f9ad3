"""A rolling recording: the oldest segments go, and what is left is whole."""

from __future__ import annotations

import time
from pathlib import Path

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from kernel.recorded import NO_SOCKET
from lab import Lab
from lab.recorder import Recorder
from lab.trouble import closed_udp_port

BUDGET = 16 << 20
PACKETS = 15_000


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_a_rolling_recording_keeps_its_budget_and_its_books(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    peak = sent = 0
    options = ("--disk-budget", "16MB", "--rotate-every", "2s", "--max-rate", "0")
    with Recorder(tmp_path / "rec", *options) as recorder:
        # A damaged journal is never removed: it leaves less room, so fewer events are needed.
        (recorder.folder / "drops").mkdir(exist_ok=True)
        filler = recorder.folder / "drops" / "000000-20261121T000000Z.journal.damaged"
        filler.write_bytes(bytes(20 << 19))
        while "drops" not in Manifest.read(recorder.folder).removed:
            assert sent < 60 * PACKETS, "nothing was removed"
            closed_udp_port(server, client, link.address(server), count=PACKETS)
            sent += PACKETS
            peak = max(peak, size(recorder.folder))
        time.sleep(2.5)
        recorder.stop()
    assert peak < BUDGET
    manifest = Manifest.read(recorder.folder)
    removed = manifest.removed["drops"]
    assert removed.files >= 1
    with open_recording(recorder.folder) as recording:
        assert recording.problems == []
        sql = f"SELECT sum(weight), min(epoch_ns(ts)) FROM drops WHERE {NO_SOCKET}"
        ((rows, first),) = recording.sql(sql).fetchall()
        assert first > max(part.last_ns for part in manifest.removed.values())
        assert 0 < rows < sent
        assert recording.sql("SELECT count(*) FROM symbols").fetchall()[0][0] > 1000
        unexplained = recording.verify().unexplained
        assert unexplained == []
        assert [k["unaccounted"] for k in recording.summary().kinds] == [0, 0, 0, 0]
        compared = [f for f in recording.verify().findings if f.subject.startswith("Udp.NoPorts")]
        assert [f.netns for f in compared] == [server.inum]
        assert compared[0].counted
