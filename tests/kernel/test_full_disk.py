"""A disk that fills up, and a folder that is taken away, while real events come."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from droptape.analyze import open_recording
from kernel.recorded import NO_SOCKET, one
from lab import Host, Lab
from lab.recorder import Recorder
from lab.trouble import closed_udp_port

COUNT = 3000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Write until there is no room for another byte."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def drops_of(host: Host) -> str:
    return f"SELECT sum(weight)::BIGINT FROM drops WHERE netns = {host.inum} AND {NO_SOCKET}"


def check_whole(folder: Path) -> None:
    assert not list(folder.rglob(".*"))
    for path in folder.rglob("*.parquet"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_a_disk_that_was_full_for_a_while_costs_nothing(lab: Lab, disk: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(disk / "rec", "--rotate-every", "1s") as recorder:
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(1)
        filler = fill(disk)
        for _ in range(3):
            closed_udp_port(server, client, link.address(server), count=COUNT)
            time.sleep(1)
        filler.unlink()
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(14)  # long enough to say that it is over
        assert recorder.stop() == 0
    told = recorder.output.splitlines()
    assert len(told) == 2
    assert "No space left on device" in told[0]
    assert "recording to disk goes on; 0 events were lost" in told[1]
    assert one(recorder, drops_of(server)) == 5 * COUNT
    check_whole(recorder.folder)
    assert not list(recorder.folder.rglob("*.journal"))
    with open_recording(recorder.folder) as recording:
        assert recording.verify().unexplained == []


def test_a_disk_that_stays_full_leaves_what_fits_and_the_account(lab: Lab, disk: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    with Recorder(disk / "rec") as recorder:
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(1)
        filler = fill(disk)
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(1)
        assert recorder.stop() == 2
    check_whole(recorder.folder)
    kept = one(recorder, drops_of(server))
    assert COUNT <= kept < 2 * COUNT
    assert f"{2 * COUNT - kept:,} events were lost: the disk took no more" in recorder.output
    for _ in range(2):
        with open_recording(recorder.folder) as recording:
            (lost,) = recording.summary().losses
            assert (lost["kind"], lost["cause"]) == ("drops", "disk_full")
            assert lost["events"] == 2 * COUNT - kept
            assert recording.info().recordings[0].state == "complete"
            assert recording.verify().unexplained == []
        filler.unlink(missing_ok=True)
        with Recorder(disk / "next") as following:
            time.sleep(1)
            following.stop()
        shutil.rmtree(disk / "next")
    assert not list(recorder.folder.rglob("*.journal"))
    assert one(recorder, drops_of(server)) == kept


@pytest.mark.parametrize("how", ["deleted", "moved", "behind a link"])
def test_a_recording_without_its_folder_ends(lab: Lab, tmp_path: Path, how: str) -> None:
    server, client = lab.host("server"), lab.host("client")
    link = lab.link(server, client)
    folder = tmp_path / "rec"
    with Recorder(folder) as recorder:
        closed_udp_port(server, client, link.address(server), count=COUNT)
        time.sleep(0.5)
        if how == "deleted":
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "away")
        if how == "behind a link":
            folder.symlink_to(tmp_path / "away")
        os.waitid(os.P_PID, recorder.pid, os.WEXITED | os.WNOWAIT)
        assert recorder.stop() == 2
    assert "was deleted or moved while it was recorded" in recorder.output
    assert recorder.output.count("\n") == 1
    assert folder.exists() == (how == "behind a link")
    if how != "deleted":
        with open_recording(tmp_path / "away") as recording:
            assert recording.sql(drops_of(server)).fetchall() == [(COUNT,)]
