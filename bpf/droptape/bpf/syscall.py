"""The bpf() commands that loading and recording need.

Numbers and layouts are the kernel's interface (include/uapi/linux/bpf.h, union bpf_attr).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# asm/unistd.h: x86_64 has a table of its own, arm64 and riscv64 share asm-generic's.
_NR_BPF = 321 if platform.machine() == "x86_64" else 280
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _PROG_LOAD = 0, 1, 2, 5
_PROG_TEST_RUN, _OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN = 10, 15, 17
_MAP_LOOKUP_BATCH, _LINK_CREATE, _ITER_CREATE = 24, 28, 33
_SOCKET_CREATED = 2  # BPF_CGROUP_INET_SOCK_CREATE
_RUN_ON_CPU = 1
_SOCKET_FILTER = 1
KPROBE, CGROUP_SOCKET, RAW_TRACEPOINT, TRACING = 2, 9, 17, 26  # enum bpf_prog_type
FEXIT, ITERATOR = 25, 28  # enum bpf_attach_type: BPF_TRACE_FEXIT, BPF_TRACE_ITER
_LOG_BYTES = 8 << 20
_ATTRIBUTES = 128
KERNEL_CALL = 0x2085
"""First half of the instruction that calls a kernel function: BPF_CALL, BPF_PSEUDO_KFUNC_CALL."""
_libc = ctypes.CDLL(None, use_errno=True)


def _call(command: int, attributes: bytes) -> tuple[int, int, bytes]:
    """Call bpf(); return its result, errno, and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    result = _libc.syscall(_NR_BPF, command, buffer, _ATTRIBUTES)
    return result, ctypes.get_errno() if result < 0 else 0, buffer.raw


def _bpf(command: int, attributes: bytes) -> int:
    result, number, _ = _call(command, attributes)
    if result < 0:
        raise OSError(number, os.strerror(number))
    return result


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.ctypes.data)


def map_update(fd: int, key: npt.NDArray[Any], value: npt.NDArray[Any]) -> None:
    """Set one element of a map; OSError when the kernel refuses."""
    _bpf(_MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, _address(key), _address(value), 0))


def map_lookup(fd: int, key: npt.NDArray[Any], value: npt.NDArray[Any]) -> bool:
    """Read one element into `value`; False when there is none, OSError on other trouble."""
    try:
        _bpf(_MAP_LOOKUP, struct.pack("<IIQQQ", fd, 0, _address(key), _address(value), 0))
    except FileNotFoundError:
        return False
    return True


def map_id(fd: int) -> int:
    """Return the kernel's id of a map (struct bpf_map_info, its second word)."""
    info = np.zeros(2, "u4")
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", fd, 8, _address(info)))
    return int(info[1])


class MapShape(NamedTuple):
    """What a map is: its type (enum bpf_map_type), sizes and flags."""

    type: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


def map_shape(fd: int) -> MapShape:
    """Return what a map is (the first words of struct bpf_map_info)."""
    info = np.zeros(6, "u4")
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", fd, info.nbytes, _address(info)))
    kind, _id, *sizes = info.tolist()
    return MapShape(kind, *sizes)


def map_create(name: str, shape: MapShape) -> int:
    """Make a map; return its descriptor. OSError when the kernel refuses."""
    return _bpf(_MAP_CREATE, struct.pack("<5I8x15sx", *shape, name.encode()[:15]))


class ProgramInfo(NamedTuple):
    """What the kernel tells about a program (struct bpf_prog_info); 0 where it does not.

    Attributes:
        recursion_misses: how often it was not run, because it would have interrupted itself (in the
            struct since Linux 5.12, 9ed9e9ba2337).
        verified: instructions that the verifier followed (since 5.16, aba64c7da983).
    """

    recursion_misses: int
    verified: int


def program_info(program_fd: int) -> ProgramInfo:
    """Return what the kernel tells about a program."""
    info = np.zeros(28, "u8")
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", program_fd, info.nbytes, _address(info)))
    return ProgramInfo(int(info[26]), int(info[27]) & 0xFFFFFFFF)


def run(program_fd: int, argument: int) -> None:
    """Run a raw-tracepoint program once here, with `argument` as its first."""
    context = np.zeros(12, "u8")
    context[0] = argument
    attributes = bytearray(_ATTRIBUTES)
    struct.pack_into("<I", attributes, 0, program_fd)
    struct.pack_into("<I", attributes, 40, context.nbytes)  # ctx_size_in
    struct.pack_into("<Q", attributes, 48, _address(context))  # ctx_in
    _bpf(_PROG_TEST_RUN, bytes(attributes))


def run_on_cpu(program_fd: int, cpu: int) -> None:
    """Run a raw-tracepoint program once on `cpu` (since Linux 5.10, 1b4d60ec162f)."""
    context = np.zeros(12, "u8")
    attributes = bytearray(_ATTRIBUTES)
    struct.pack_into("<I", attributes, 0, program_fd)
    struct.pack_into("<I", attributes, 40, context.nbytes)  # ctx_size_in
    struct.pack_into("<Q", attributes, 48, _address(context))  # ctx_in
    struct.pack_into("<II", attributes, 64, _RUN_ON_CPU, cpu)
    _bpf(_PROG_TEST_RUN, bytes(attributes))


def link_socket_creation(program_fd: int, cgroup: str) -> int:
    """Attach a program to the making of sockets in a cgroup and all below (since Linux 5.7).

    Returns:
        The link's descriptor. Programs of others stay attached beside it.
    """
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _bpf(_LINK_CREATE, struct.pack("<IIII", program_fd, folder, _SOCKET_CREATED, 0))
    finally:
        os.close(folder)


def _loads(program_type: int, code: bytes, license_: bytes) -> bool:
    instructions, text = np.frombuffer(code, "u1"), np.frombuffer(license_ + b"\0", "u1")
    attributes = struct.pack(
        "<IIQQ", program_type, len(code) // 8, _address(instructions), _address(text)
    )
    try:
        os.close(_bpf(_PROG_LOAD, attributes))
    except OSError:
        return False
    return True


class RefusedError(OSError):
    """The kernel does not take a program; `strerror` has the verifier's last words."""


def program_load(
    name: str, code: bytes, program_type: int, *, attach_type: int = 0, target: int = 0
) -> int:
    """Load a program under the GPL; return its descriptor.

    Args:
        name: its name; the kernel keeps 15 bytes.
        code: the instructions.
        program_type: `KPROBE`, `CGROUP_SOCKET`, `RAW_TRACEPOINT` or `TRACING`.
        attach_type: of a `TRACING` program, `FEXIT` or `ITERATOR`.
        target: BTF id of the function that it is attached to.

    Raises:
        RefusedError: the kernel does not take it.
    """
    text, license_ = np.frombuffer(code, "u1"), np.frombuffer(b"GPL\0", "u1")

    def load(log: npt.NDArray[Any] | None) -> int:
        attributes = bytearray(_ATTRIBUTES)
        struct.pack_into(
            "<IIQQIIQ", attributes, 0, program_type, len(code) // 8, _address(text),
            _address(license_), int(log is not None), len(log) if log is not None else 0,
            _address(log) if log is not None else 0,
        )  # fmt: skip
        struct.pack_into("<15s", attributes, 48, name.encode()[:15])
        struct.pack_into("<I", attributes, 68, attach_type)
        struct.pack_into("<I", attributes, 108, target)
        return _bpf(_PROG_LOAD, bytes(attributes))

    try:
        return load(None)
    except OSError:
        log = np.zeros(_LOG_BYTES, "u1")
    try:
        return load(log)
    except OSError as exc:
        lines = log.tobytes().rstrip(b"\0").decode(errors="replace").splitlines()
        said = [line for line in lines if line and not line.startswith("processed ")]
        why = f"{exc.strerror}: {said[-1]}" if said else str(exc.strerror)
        raise RefusedError(exc.errno, why) from exc


def open_raw_tracepoint(program_fd: int, name: str = "") -> int:
    """Attach a program to a raw tracepoint, or one of type `TRACING` to its target.

    Returns:
        The link's descriptor.
    """
    text = np.frombuffer(name.encode() + b"\0", "u1")
    return _bpf(
        _RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", _address(text) if name else 0, program_fd)
    )


def link_iterator(program_fd: int, map_fd: int | None = None) -> int:
    """Make an iterator (since Linux 5.8), over the elements of a map if one is given.

    Returns:
        The link's descriptor, for `iterate`.
    """
    info = np.array([map_fd or 0], "u4")  # union bpf_iter_link_info
    given = (_address(info), info.nbytes) if map_fd is not None else (0, 0)
    return _bpf(_LINK_CREATE, struct.pack("<IIIIQI4x", program_fd, 0, ITERATOR, 0, *given))


def can_exchange() -> bool:
    """Say whether programs may compare and exchange (since Linux 5.12, 5ffa25502b5a): load one.

    That is: r0 = 0; *(r10 - 8) = r0; compare *(r10 - 8) with r0, exchange with r0; return r0.
    """
    code = "b700000000000000 7b0af8ff00000000 db0af8fff1000000 b700000000000000 9500000000000000"
    return _loads(_SOCKET_FILTER, bytes.fromhex(code), b"Apache-2.0")


def can_cast(function: int, type_id: int) -> bool:
    """Say whether programs may take a number for a pointer to a struct: load one that does.

    That is: r1 = 0; r2 = `type_id`; r0 = bpf_rdonly_cast(r1, r2); r0 = *(u64 *)r0; return 0.

    Args:
        function: BTF id of bpf_rdonly_cast (since Linux 6.2, a35b9af4ec2c).
        type_id: BTF id of a struct that begins with a number of 8 bytes.
    """
    code = struct.pack("<IiIiII", 0x1B7, 0, 0x2B7, type_id, KERNEL_CALL, function)
    code += bytes.fromhex("7900000000000000 b700000000000000 9500000000000000")
    return _loads(RAW_TRACEPOINT, code, b"GPL")


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, 65536)
        except BlockingIOError:
            # After a million elements about which the program wrote nothing, bpf_seq_read lets
            # the caller go, who goes on with the next call (kernel/bpf/bpf_iter.c).
            continue


def iterate(link_fd: int) -> bytes:
    """Run a BPF iterator over all its elements; return what the program wrote."""
    fd = _bpf(_ITER_CREATE, struct.pack("<II", link_fd, 0))
    parts: list[bytes] = []
    try:
        while part := _read(fd):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def map_items(
    fd: int, key: np.dtype[Any], value: np.dtype[Any], entries: int, copies: int = 1
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Read a whole hash map in one go (BPF_MAP_LOOKUP_BATCH, since Linux 5.6).

    Args:
        fd: the map.
        key: its key.
        value: its value; its size must be a multiple of 8 bytes for a per-CPU map.
        entries: its capacity.
        copies: values per key: the possible CPUs for a per-CPU map, else 1.

    Returns:
        Keys, shape (n,), and values, shape (n, copies).
    """
    # Not zeros, which would touch all of it: most is never used.
    keys = np.empty(entries, key)
    values = np.empty((entries, copies), value)
    position, next_position = np.zeros(1, "u8"), np.zeros(1, "u8")
    taken = 0
    while taken < entries:
        attributes = struct.pack(
            "<QQQQIIQQ",
            _address(position) if taken else 0,
            _address(next_position),
            _address(keys[taken:]),
            _address(values[taken:]),
            entries - taken,
            fd,
            0,
            0,
        )
        result, number, left = _call(_MAP_LOOKUP_BATCH, attributes)
        if result < 0 and number != errno.ENOENT:
            raise OSError(number, os.strerror(number))
        taken += struct.unpack_from("<I", left, 32)[0]
        position[:] = next_position
        if result < 0:  # ENOENT: that was the rest
            break
    return keys[:taken], values[:taken]
