"""Killing a recorder at a random moment of its work, and what is left."""

from __future__ import annotations

import random
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest
from droptape.recorder.recovery import recover
from lab.net import Host
from lab.process import Child, Task
from lab.recorder import Recorder

_OPTIONS = ("--rotate-every", "200ms", "--rotate-size", "64KB")
_ROWS = "SELECT count(*), count(DISTINCT (mono_ns, cpu)) FROM drops"


@dataclass(frozen=True)
class Crash:
    """What one kill left.

    Attributes:
        acknowledged: Rows that a reader had seen before the kill.
        after: Rows that a reader sees after it.
        recovered: Rows when the next recorder has sealed the rest.
        distinct: Of these, how many differ.
        journals: Journals that the kill left.
        sealed: Sealed files that it left.
        whole: Whether every file then fits its checksum, and none is half written.
        told: Whether the manifest says what happened.
    """

    acknowledged: int
    after: int
    recovered: int
    distinct: int
    journals: int
    sealed: int
    whole: bool
    told: bool

    @property
    def harmless(self) -> bool:
        """Whether nothing was lost or doubled, and everything is said."""
        kept = self.acknowledged <= self.after == self.recovered == self.distinct
        return kept and self.whole and self.told


def trouble_until_stopped(child: Child) -> int:
    """Send datagrams to a closed port of this host, a few thousand per second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        child.ready()
        sent = 0
        while not child.stopping():
            for _ in range(50):
                sender.sendto(b"x", ("127.0.0.1", 9))
            sent += 50
            time.sleep(0.005)
    return sent


def crash(folder: Path, dice: random.Random) -> Crash:
    """Record into `folder`, kill the recorder, recover; `folder` is removed.

    Something has to make events meanwhile (`trouble_until_stopped`). The segments are so short that
    the recorder is sealing most of the time.
    """
    with Recorder(folder, *_OPTIONS) as recorder:
        time.sleep(dice.uniform(0.2, 1.2))
        acknowledged = _rows(folder)[0]
        time.sleep(dice.uniform(0, 0.2))
        recorder.kill()
    journals, sealed = (len(list(folder.glob(f"*/*.{e}"))) for e in ("journal", "parquet"))
    after = _rows(folder)[0]
    report = recover(folder)
    rows, distinct = _rows(folder)
    with open_recording(folder) as recording:
        problems = [f for f in recording.verify().unexplained if f.part == "files"]
        state = recording.info().recordings[0].state
    # Half a frame at the end of a journal is no damage: nobody was told that it is there.
    whole = not problems and not list(folder.rglob(".*"))
    told = report.killed and state == "recovered" and "killed" in Manifest.read(folder).ended_by
    shutil.rmtree(folder)
    return Crash(acknowledged, after, rows, distinct, journals, sealed, whole, told)


def _rows(folder: Path) -> tuple[int, int]:
    with open_recording(folder) as recording:
        ((rows, distinct),) = recording.sql(_ROWS).fetchall()
    return rows, distinct


def busy(host: Host) -> Task[int]:
    """Start `trouble_until_stopped` on `host`; stop it in the end."""
    task = host.spawn(trouble_until_stopped)
    task.ready()
    return task
