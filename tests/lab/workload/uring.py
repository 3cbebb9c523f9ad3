"""The little of io_uring that a server needs, without liburing.

Numbers and layouts are the kernel's interface (include/uapi/linux/io_uring.h).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from types import TracebackType

_SETUP, _ENTER = 425, 426
_OP_ACCEPT, _OP_SEND, _OP_RECV = 13, 26, 27
_GETEVENTS = 1
_OFF_CQ_RING, _OFF_SQES = 0x8000000, 0x10000000
_SQE_BYTES, _CQE_BYTES, _PARAMS_BYTES = 64, 16, 120
# struct io_uring_params: the offsets in the rings follow ten 32-bit words.
_SQ_OFFSETS, _CQ_OFFSETS = 40, 80
_libc = ctypes.CDLL(None, use_errno=True)


def _setup(entries: int) -> tuple[int, bytes]:
    params = ctypes.create_string_buffer(_PARAMS_BYTES)
    descriptor = _libc.syscall(_SETUP, entries, params)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor, params.raw


def missing() -> str:
    """Return why there is no io_uring here, "" if there is."""
    try:
        descriptor, _ = _setup(1)
    except OSError as error:
        return error.strerror or str(error)
    os.close(descriptor)
    return ""


class Ring:
    """An io_uring that does one operation at a time."""

    def __init__(self) -> None:
        self._fd, params = _setup(4)
        entries, cq_entries = struct.unpack_from("<II", params)
        self._head, self._tail, self._mask, _, _, _, self._array = struct.unpack_from(
            "<7I", params, _SQ_OFFSETS
        )
        self._cq_head, self._cq_tail, self._cq_mask, _, _, self._cqes = struct.unpack_from(
            "<6I", params, _CQ_OFFSETS
        )
        flags, access = mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        self._sq = mmap.mmap(self._fd, self._array + 4 * entries, flags, access)
        size = self._cqes + _CQE_BYTES * cq_entries
        self._cq = mmap.mmap(self._fd, size, flags, access, offset=_OFF_CQ_RING)
        self._sqes = mmap.mmap(self._fd, _SQE_BYTES * entries, flags, access, offset=_OFF_SQES)

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def _do(self, operation: int, descriptor: int, address: int, length: int) -> int:
        """Do one operation and wait for it; return its result or raise its error."""
        (tail,) = struct.unpack_from("<I", self._sq, self._tail)
        (mask,) = struct.unpack_from("<I", self._sq, self._mask)
        place = tail & mask
        entry = struct.pack("<BBHiQQI", operation, 0, 0, descriptor, 0, address, length)
        self._sqes[place * _SQE_BYTES : (place + 1) * _SQE_BYTES] = entry.ljust(_SQE_BYTES, b"\0")
        struct.pack_into("<I", self._sq, self._array + 4 * place, place)
        struct.pack_into("<I", self._sq, self._tail, tail + 1 & 0xFFFFFFFF)
        submit = 1
        while True:
            done = _libc.syscall(_ENTER, self._fd, submit, 1, _GETEVENTS, None, 0)
            if done >= 0:
                break
            if ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), "io_uring_enter")
            submit = 0
        (head,) = struct.unpack_from("<I", self._cq, self._cq_head)
        (mask,) = struct.unpack_from("<I", self._cq, self._cq_mask)
        _, result = struct.unpack_from("<Qi", self._cq, self._cqes + (head & mask) * _CQE_BYTES)
        struct.pack_into("<I", self._cq, self._cq_head, head + 1 & 0xFFFFFFFF)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    def accept(self, listener: socket.socket) -> socket.socket:
        """Wait for a connection."""
        return socket.socket(fileno=self._do(_OP_ACCEPT, listener.fileno(), 0, 0))

    def receive(self, connection: socket.socket, size: int) -> bytes:
        """Read up to `size` bytes."""
        room = ctypes.create_string_buffer(size)
        got = self._do(_OP_RECV, connection.fileno(), ctypes.addressof(room), size)
        return room.raw[:got]

    def send_all(self, connection: socket.socket, data: bytes) -> None:
        """Write all of `data`."""
        room = ctypes.create_string_buffer(data, len(data))
        at = 0
        while at < len(data):
            start = ctypes.addressof(room) + at
            at += self._do(_OP_SEND, connection.fileno(), start, len(data) - at)
