"""The small file system that a virtual machine starts from: busybox, `init.sh`, a few modules."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Mapping
from pathlib import Path

from vm.fetch import Kernel

INIT = Path(__file__).with_name("init.sh")
NEEDED = ("virtio_pci", "virtiofs", "overlay")
"""Modules that the start needs; some kernels have them built in."""

_DIRECTORY, _FILE = 0o040755, 0o100755


def build(kernel: Kernel, busybox: Path) -> bytes:
    """Return the archive for `kernel`; `busybox` is a static one for its machine."""
    files: dict[str, bytes] = {
        "init": INIT.read_bytes(),
        "bin/busybox": busybox.read_bytes(),
    }
    order = []
    for path in _in_loading_order(kernel.modules):
        name = path.name.split(".")[0]
        files[f"load/{name}"] = _unpacked(path)
        order.append(name)
    files["order"] = "\n".join(order).encode()
    folders = {parent for name in files for parent in Path(name).parents if parent.name}
    entries: dict[str, bytes | None] = {str(folder): None for folder in sorted(folders)}
    return cpio(entries | files)


def _in_loading_order(modules: Path) -> list[Path]:
    """Return NEEDED and what they depend on, each after what it needs (modules.dep(5))."""
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
        by_name[Path(path).name.split(".")[0].replace("-", "_")] = path
    order: list[str] = []

    def add(path: str) -> None:
        for other in needs[path]:
            add(other)
        if path not in order:
            order.append(path)

    for name in NEEDED:
        if name in by_name:
            add(by_name[name])
    return [modules / path for path in order]


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def cpio(entries: Mapping[str, bytes | None]) -> bytes:
    """Pack files, and folders where the content is None, in the form that the kernel unpacks.

    That is "newc": Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    out = bytearray()
    for number, (name, content) in enumerate([*entries.items(), ("TRAILER!!!", b"")], start=1):
        mode = _DIRECTORY if content is None else _FILE
        content = content or b""
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, four device numbers, length of name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        out += bytes(-len(out) % 4)
        out += content
        out += bytes(-len(out) % 4)
    return bytes(out)
