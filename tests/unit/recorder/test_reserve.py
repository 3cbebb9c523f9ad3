"""Room that is kept on a disk for the end of a recording."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from droptape.recorder import reserve
from droptape.recorder.reserve import Reserve

KB = 1 << 10


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (1000, {".reserve": 256, ".reserve-manifest": 256}),
        (600, {".reserve": 256, ".reserve-manifest": 256}),
        (300, {".reserve-manifest": 128}),
        (100, {}),
    ],
)
def test_a_small_disk_keeps_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: dict[str, int]
) -> None:
    """Without room for the manifest nothing would say what the disk had no room for."""

    def write(fd: int, data: bytes) -> None:
        used = sum(path.stat().st_size for path in tmp_path.iterdir())
        os.write(fd, data[: room * KB - used])
        if used + len(data) > room * KB:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reserve, "write_all", write)
    monkeypatch.setattr(reserve, "_free", lambda _: room * KB)
    made = Reserve(tmp_path)
    assert {path.name: path.stat().st_size // KB for path in tmp_path.iterdir()} == kept
    assert made.bytes == sum(kept.values()) * KB
    made.shrink()
    assert {path.name for path in tmp_path.iterdir()} == kept.keys() - {".reserve"}
    made.release()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_tell_its_room_keeps_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems of programs (FUSE) have no statfs."""

    def refuse(_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "statvfs", refuse)
    assert Reserve(tmp_path).bytes == 512 * KB
