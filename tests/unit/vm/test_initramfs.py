from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from vm.fetch import Kernel
from vm.initramfs import NEEDED, build, cpio


def test_cpio_is_what_other_programs_read(tmp_path: Path) -> None:
    reader = shutil.which("busybox")
    if reader is None:
        pytest.skip("busybox is not installed")
    archive = cpio({"a": None, "a/file": b"one\n", "b": b"", "odd": b"123"})
    assert len(archive) % 4 == 0
    subprocess.run([reader, "cpio", "-id"], cwd=tmp_path, input=archive, check=True)
    found = {str(p.relative_to(tmp_path)): p.is_dir() for p in tmp_path.rglob("*")}
    assert found == {"a": True, "a/file": False, "b": False, "odd": False}
    assert (tmp_path / "a/file").read_bytes() == b"one\n"
    assert (tmp_path / "odd").read_bytes() == b"123"


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"")
    modules = tmp_path / "lib/modules/1.2.3"
    (modules / "kernel").mkdir(parents=True)
    (tmp_path / "release").write_text("1.2.3\n")
    (modules / "kernel/virtiofs.ko.xz").write_bytes(lzma.compress(b"virtiofs"))
    (modules / "kernel/fuse.ko").write_bytes(b"fuse")
    (modules / "modules.dep").write_text("kernel/virtiofs.ko.xz: kernel/fuse.ko\nkernel/fuse.ko:\n")
    archive = build(Kernel(tmp_path), busybox)
    assert b"fuse\nvirtiofs" in archive
    assert b"load/virtiofs\0" in archive
    assert "overlay" in NEEDED  # Built in here, so it is not an error that there is no such module.
