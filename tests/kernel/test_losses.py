"""What could not be recorded is counted, and nothing is missing from the books."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kernel.recorded import ask
from lab import Lab
from lab.recorder import Recorder
from lab.trouble import closed_udp_port

FLOOD = 80_000
"""More than the ring of drops holds."""


def test_a_full_ring_is_counted(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(tmp_path / "rec", "--max-rate", "0") as recorder:
        os.kill(recorder.pid, signal.SIGSTOP)
        try:
            closed = closed_udp_port(server, client, link.address(server), count=FLOOD)
        finally:
            os.kill(recorder.pid, signal.SIGCONT)
        ((rows,),) = ask(recorder, f"SELECT sum(weight) FROM drops WHERE netns = {server.inum}")
        ((total, recorded),) = ask(
            recorder,
            f"""SELECT sum(events), sum(recorded) FROM totals
                WHERE kind = 'drops' AND NOT benign AND netns = {server.inum}""",
            totals=True,
        )
        ((lost,),) = ask(
            recorder,
            "SELECT sum(events) FROM losses WHERE kind = 'drops' AND cause = 'ring_full'",
        )
        recorder.stop()
    assert total == closed.attempts == FLOOD
    assert recorded == rows < FLOOD
    assert lost == total - rows
    assert not list(recorder.folder.rglob("*.damaged"))
    ((lost_after,),) = ask(recorder, "SELECT sum(events) FROM losses")
    assert lost_after == lost
