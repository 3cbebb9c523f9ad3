"""How often the named process is right: droptape, the current task, and bcc's tcpretrans.

The mixed workload of tests/lab/workload says itself which process used which socket.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import command, headers, peers
from bench.table import Options, Row
from lab import Lab
from lab.recorder import Recorder
from lab.workload import Workload
from lab.workload.score import Event, Score, events, score_tcpretrans, scores

_GOAL_RIGHT, _GOAL_WRONG = 0.99, 0.002


@contextmanager
def _tcpretrans(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Run bcc's tcpretrans with its output in a file; where it does not run, say why."""
    lines = folder / "tcpretrans"
    lines.touch()
    tool = next((n for n in ("tcpretrans-bpfcc", "tcpretrans") if shutil.which(n)), None)
    if tool is None:
        problems.append("tcpretrans is not installed (bpfcc-tools)")
        yield lines
        return
    try:
        source = headers.write(folder)
        peer = peers.Peer(["env", f"BCC_KERNEL_SOURCE={source}", tool], lines, 1)
    except (peers.PeerError, LookupError) as exc:
        problems.append(str(exc))
        yield lines
        return
    try:
        yield lines
    finally:
        peer.stop()


def run(folder: Path, seconds: float, *options: str) -> tuple[list[Event], Score, list[str]]:
    """Run the workload under the recorder and tcpretrans; return events, peer's score, problems."""
    with Lab() as lab:
        workload = Workload(lab, folder)
        problems = workload.problems
        with Recorder(folder / "rec", *options) as recorder, _tcpretrans(folder, problems) as lines:
            workload.run(seconds)
            recorder.stop()
        truth = workload.truth()
    peer = score_tcpretrans(lines.read_text().splitlines(), truth, workload.spaces)
    return list(events(folder / "rec", truth)), peer, problems


def measure(options: Options) -> list[Row]:
    """Score by default and with --track-io, event kind by event kind."""
    rows: list[Row] = []
    for extra in ((), ("--track-io",)):
        with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name:
            found, peer, problems = run(Path(name), options.pick(20, 8), *extra)
        ours, naive = scores(found)
        what = " ".join(("owners", *extra))
        for label in sorted(ours.counts, key=lambda key: -ours.counts[key].total()):
            cell = f"current task {naive.cell(label)}"
            if label in peer.counts:
                cell += f", tcpretrans {peer.cell(label)}"
            rows.append(
                Row(f"{what}: {label} ({ours.counts[label].total()})", ours.cell(label), cell)
            )
        right, wrong = ours.share("right"), ours.share("wrong")
        rows.append(
            Row(
                f"{what}: all ({ours.total.total()}), right/wrong/unknown %",
                ours.cell(),
                f"current task {naive.cell()}",
                None,
                f"right {100 * _GOAL_RIGHT:g}, wrong {100 * _GOAL_WRONG:g}",
                right >= _GOAL_RIGHT and wrong <= _GOAL_WRONG,
                "; ".join(problems),
            )
        )
    return rows


if __name__ == "__main__":
    command.main({"owners": measure}, __doc__)
