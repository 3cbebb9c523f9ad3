"""Compiled programs, and where they are kept for the next start.

Compiling takes most of a start, and gives the same for the same source. What it gives is for this
kernel, whose types the source knows, and for every boot of it: addresses, which a kernel chooses at
random when it boots, are put in when the programs are loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .syscall import MapShape

FOLDER = Path("/var/cache/droptape")
FOLDER_OF_SERVICE = "CACHE_DIRECTORY"
"""Environment variable with the folder that systemd made for a service and its user."""
# A FIFO must not hold whoever opens it.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEPT = 12
"""The kernel and options of a host change rarely; more than one is for tests and upgrades."""
_SUFFIX = ".programs"
ADDRESS = 0x7FFE_0000_0000_0000
"""Stands for the address whose place is added to it; neither the kernel nor programs are there."""
# BPF_LD_IMM64 into any register, of what BPF_PSEUDO_MAP_FD stands for, and of a number.
_LOAD, _LOAD_MAP, _LOAD_NUMBER = 0xF0FF, 0x1018, 0x18


def map_places(code: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return which instructions load the address of a map; `code` has two numbers for each."""
    return np.flatnonzero(code[::2] & _LOAD == _LOAD_MAP)


def address_places(code: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return which instructions load an address of this boot, each with the next (`ADDRESS`)."""
    loads = np.flatnonzero(code[::2] & _LOAD == _LOAD_NUMBER)
    found: npt.NDArray[np.intp] = loads[code[1::2][loads + 1] == ADDRESS >> 32]
    return found


@dataclass(frozen=True, slots=True)
class Compiled:
    """Programs and the maps they use.

    Attributes:
        maps: what each map is, by name.
        programs: instructions by the C function's name. Where one loads the address of a map, it
            holds the map's place in `maps` instead of a descriptor. Where one loads an address of
            this boot, it holds `ADDRESS` and the address's place among all.
    """

    maps: Mapping[str, MapShape]
    programs: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """Return all of it as text, after a line with its checksum."""
        programs = {name: code.hex() for name, code in self.programs.items()}
        text = json.dumps({"maps": self.maps, "programs": programs}).encode()
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text

    @classmethod
    def from_bytes(cls, data: bytes) -> Compiled | None:
        """Return what `to_bytes` gave; None when it is damaged."""
        checksum, _, text = data.partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != checksum:
            return None
        found = json.loads(text)
        return cls(
            {name: MapShape(*shape) for name, shape in found["maps"].items()},
            {name: bytes.fromhex(code) for name, code in found["programs"].items()},
        )


def joined(parts: Sequence[Compiled]) -> Compiled:
    """Return the programs of all parts, with one map for each name."""
    maps: dict[str, MapShape] = {}
    programs: dict[str, bytes] = {}
    for part in parts:
        maps |= part.maps
    places = {name: place for place, name in enumerate(maps)}
    for part in parts:
        there = np.array([places[name] for name in part.maps], "u4")
        for name, instructions in part.programs.items():
            code = np.frombuffer(instructions, "u4").copy()
            at = map_places(code)
            code[1::2][at] = there[code[1::2][at]]
            programs[name] = code.tobytes()
    return Compiled(maps, programs)


class Cache:
    """Compiled programs in a folder that nobody but its owner can write.

    What is in it is loaded into the kernel, so it is used only by its owner, and only while the
    folder and the file are the owner's own. Where it cannot be used, programs are compiled each
    time.
    """

    @classmethod
    def of_this_user(cls) -> Cache:
        """Return root's, or that of the service this is."""
        given = os.environ.get(FOLDER_OF_SERVICE, "").partition(":")[0]
        return cls(Path(given), os.geteuid()) if given.startswith("/") else cls(FOLDER)

    def __init__(self, folder: Path = FOLDER, owner: int = 0) -> None:
        """Use `folder`, which is made when it is missing.

        Args:
            folder: where.
            owner: the user id that must own it; no other user uses it.
        """
        self._folder = folder
        self._owner = owner

    def find(self, key: str) -> Compiled | None:
        """Return what was kept under `key`, None without it."""
        with self._open() as folder:
            if folder < 0:
                return None
            try:
                fd = os.open(key + _SUFFIX, _READ, dir_fd=folder)  # fmt: skip
            except OSError:
                return None
            with os.fdopen(fd, "rb") as file:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or not self._ours(found):
                    return None
                with contextlib.suppress(OSError):  # a disk that is read-only
                    os.utime(fd)  # what is used is not forgotten
                try:
                    return Compiled.from_bytes(file.read())
                except OSError:
                    return None

    def keep(self, key: str, compiled: Compiled) -> None:
        """Keep `compiled` under `key`, and of many forget what was not used for longest."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700)
        with self._open() as folder, contextlib.suppress(OSError):
            if folder < 0:
                return
            aside = f".{key}.{os.getpid()}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(aside, flags, 0o600, dir_fd=folder), "wb") as file:
                    file.write(compiled.to_bytes())
                os.replace(aside, key + _SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(aside, dir_fd=folder)
                return
            self._forget(folder)

    def _forget(self, folder: int) -> None:
        names = [name for name in os.listdir(folder) if name.endswith(_SUFFIX)]
        ages = {name: os.stat(name, dir_fd=folder).st_mtime_ns for name in names}
        for name in sorted(ages, key=ages.__getitem__)[:-_KEPT]:
            os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        """Give a descriptor of the folder, -1 when it may not be used."""
        if os.geteuid() != self._owner:
            yield -1
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            folder = os.open(self._folder, flags)
        except OSError:
            yield -1
            return
        try:
            yield folder if self._ours(os.fstat(folder)) else -1
        finally:
            os.close(folder)

    def _ours(self, found: os.stat_result) -> bool:
        return found.st_uid == self._owner and not found.st_mode & 0o022
