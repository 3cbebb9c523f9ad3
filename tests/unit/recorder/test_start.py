"""The first moments, before there is anything to end in order."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from droptape.recorder.stopping import Stopper

from .helpers import make_store

INTERRUPTED = """
import os, signal, sys
from droptape.recorder import start

class Interrupt:
    def find_spec(name, *_):
        if name == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
start.main()
"""


@pytest.mark.parametrize("module", ["droptape.recorder.cli", "droptape.bpf.process"])
def test_ctrl_c_while_it_imports_is_no_traceback(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "-o", "/nowhere/recording", module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_many_open_files_do_not_end_it() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    files = [Path("/dev/null").open() for _ in range(1100)]  # noqa: SIM115
    try:
        with Stopper(0.0) as stopper:
            stopper.start()
            stopper.wait(0.01)
            assert stopper.reason == "the duration ended"
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_a_thread_there_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            make_store(tmp_path / "rec")
    assert list(tmp_path.iterdir()) == []


def test_what_is_discarded_has_never_been(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rec")
    store.discard()
    store.close("nothing")
    assert list(tmp_path.iterdir()) == []
    store = make_store(tmp_path / "rec")
    (tmp_path / "rec").rename(tmp_path / "moved")
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/mine").touch()
    store.discard()
    assert (tmp_path / "rec/mine").exists()
