"""From real trouble to a report and a bundle that somebody else opens."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from droptape.analyze import open_recording
from lab import Lab, Wire, trouble
from lab.recorder import PROGRAMS, Recorder

SUMS = "SELECT kind, cause, sum(amount) FROM events GROUP BY ALL ORDER BY ALL"


def test_a_bundle_opens_elsewhere(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server")
    with Recorder(tmp_path / "rec") as recorder, Wire(server) as wire:
        with server.counting() as moved:
            refused = trouble.refuse_syns(server, wire, version=4)
        assert moved["TcpExt.ListenDrops"] == refused.listen_drops
        recorder.stop()
    made = tmp_path / "ticket.droptape"
    program = PROGRAMS / "droptape"
    subprocess.run([program, "bundle", tmp_path / "rec", "-o", made, "--redact"], check=True)
    subprocess.run([program, "report", made, "-o", tmp_path / "page.html"], check=True)
    assert "accept_queue_full" in (tmp_path / "page.html").read_text()
    with open_recording(tmp_path / "rec") as rec, open_recording(made) as bundled:
        sums = rec.sql(SUMS).fetchall()
        assert bundled.sql(SUMS).fetchall() == sums
        assert bundled.verify().balanced == rec.verify().balanced
    assert sum(row[2] for row in sums if row[0] == "listen") >= refused.listen_drops

    # Another user, who can read the file and nothing else of this test, in another folder.
    elsewhere = Path("/var/tmp") / f"droptape-test-{os.getpid()}"
    nobody = pwd.getpwnam("nobody")
    elsewhere.mkdir(mode=0o755)
    try:
        copy = Path(shutil.copy(made, elsewhere / "from-a-colleague.droptape"))
        copy.chmod(0o444)
        code = (
            "import json; from droptape.analyze import open_recording\n"
            f"with open_recording({str(copy)!r}) as rec:\n"
            f"    print(json.dumps(rec.sql({SUMS!r}).fetchall()))"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/",
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": "/var/tmp"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(elsewhere)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [list(row) for row in sums]
