"""What the kernel knows of BPF programs and maps: run times, links, entries.

Command numbers and layouts are the kernel's interface (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NR_BPF = 321 if platform.machine() == "x86_64" else 280
_MAP_GET_NEXT_KEY, _PROG_LOAD, _PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID = 4, 5, 13, 14
_OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN, _ENABLE_STATS = 15, 17, 32
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_HASHES = {1, 5}  # BPF_MAP_TYPE_HASH, _PERCPU_HASH
_ATTRIBUTES = 128
_INFO_BYTES = 256
_RUN_TIME_AT, _NAME_AT = 192, 64  # struct bpf_prog_info: run_time_ns, name
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    result: int = _libc.syscall(_NR_BPF, command, buffer, _ATTRIBUTES)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel measure the time of every BPF program meanwhile."""
    descriptor = _bpf(_ENABLE_STATS, struct.pack("<I", 0))  # BPF_STATS_RUN_TIME
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def empty_program(tracepoint: str) -> Iterator[int]:
    """Attach a program that returns at once; gives its descriptor."""
    # r0 = 0; exit
    code = ctypes.create_string_buffer(struct.pack("<QQ", 0xB7, 0x95))
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "<IIQQIIQII16s", _RAW_TRACEPOINT, 2, ctypes.addressof(code), ctypes.addressof(licence),
        0, 0, 0, 0, 0, b"bench_empty",
    )  # fmt: skip
    program = _bpf(_PROG_LOAD, load)
    try:
        name = ctypes.create_string_buffer(tracepoint.encode())
        link = _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), program))
        try:
            yield program
        finally:
            os.close(link)
    finally:
        os.close(program)


@dataclass(frozen=True, slots=True)
class RunTime:
    """How often a program ran, and how long in all."""

    ns: int
    runs: int

    def __sub__(self, before: RunTime) -> RunTime:
        return RunTime(self.ns - before.ns, self.runs - before.runs)

    @property
    def ns_per_run(self) -> float:
        """Nanoseconds of one run; 0 without any."""
        return self.ns / self.runs if self.runs else 0.0


def _info(descriptor: int) -> bytes:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    request = struct.pack("<IIQ", descriptor, _INFO_BYTES, ctypes.addressof(info))
    _bpf(_OBJ_GET_INFO, request)
    return info.raw


def run_time(program: int) -> RunTime:
    """Read the statistics of a program."""
    return RunTime(*struct.unpack_from("<QQ", _info(program), _RUN_TIME_AT))


def _fdinfo(pid: int) -> Iterator[dict[str, str]]:
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:  # Closed since the folder was read.
            continue
        yield {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def programs_of(pid: int) -> dict[str, int]:
    """Return descriptors of the programs whose links a process holds, by name.

    The kernel keeps 15 characters of a name.
    """
    found: dict[str, int] = {}
    for info in _fdinfo(pid):
        if info.get("link_type") == "raw_tracepoint":
            descriptor = _bpf(_PROG_GET_FD_BY_ID, struct.pack("<I", int(info["prog_id"])))
            name = _info(descriptor)[_NAME_AT : _NAME_AT + 16].split(b"\0")[0].decode()
            found[name] = descriptor
    return found


def map_entries(pid: int) -> int:
    """Count the entries of all hash maps that a process holds.

    Maps of a fixed size that push out the oldest entry (LRU) are meant to fill, and left out.
    """
    maps = {
        int(info["map_id"]): int(info["key_size"])
        for info in _fdinfo(pid)
        if int(info.get("map_type", 0)) in _HASHES
    }
    return sum(_count(number, size) for number, size in maps.items())


def _count(map_id: int, key_size: int) -> int:
    descriptor = _bpf(_MAP_GET_FD_BY_ID, struct.pack("<I", map_id))
    key = ctypes.create_string_buffer(key_size)
    entries, at = 0, 0
    try:
        while True:
            step = struct.pack("<IIQQ", descriptor, 0, at, ctypes.addressof(key))
            _bpf(_MAP_GET_NEXT_KEY, step)
            entries, at = entries + 1, ctypes.addressof(key)
    except FileNotFoundError:
        return entries
    finally:
        os.close(descriptor)
