"""Sockets without room: a small receive buffer, and a socket that is busy."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import random
import socket
import struct
import threading
from dataclasses import dataclass

from lab.net import Host
from lab.packet import ACK, PSH, Endpoint, Segment
from lab.process import Child, LabError
from lab.trouble.listen import final_ack, send_syns
from lab.wire import Wire

# include/uapi/linux/userfaultfd.h
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04
_UFFD_API, _MISSING = 0xAA, 1


@dataclass(frozen=True)
class Crammed:
    """A connection that was sent more than it had room for.

    Attributes:
        local: The server's address and port.
        remote: The client's.
        pid: The server's process.
        comm: Its name.
        sent: Segments sent to it.
    """

    local: Endpoint
    remote: Endpoint
    pid: int
    comm: str
    sent: int


def _listen(address: str, buffer: int = 4096) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    listener.bind((address, 0))
    listener.listen()
    return listener


def _never_read(child: Child, address: str, buffer: int) -> None:
    with _listen(address, buffer) as listener:
        child.ready(Endpoint(*listener.getsockname()))
        with listener.accept()[0]:
            child.stopping(None)


class _Page:
    """A page that is not there until `give`: who reads it waits inside the kernel."""

    def __init__(self) -> None:
        number = _USERFAULTFD.get(platform.machine())
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(number, os.O_CLOEXEC) if number else -1
        if self._fd < 0:
            raise LabError("no userfaultfd here")
        fcntl.ioctl(self._fd, _UFFDIO_API, bytearray(struct.pack("QQQ", _UFFD_API, 0, 0)))
        self.memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        region = struct.pack("QQQQ", self._at, mmap.PAGESIZE, _MISSING, 0)
        fcntl.ioctl(self._fd, _UFFDIO_REGISTER, bytearray(region))

    def wait(self) -> None:
        """Wait until somebody reads it (struct uffd_msg has 32 bytes)."""
        os.read(self._fd, 32)

    def give(self) -> None:
        region = struct.pack("QQQq", self._at, mmap.PAGESIZE, 0, 0)
        fcntl.ioctl(self._fd, _UFFDIO_ZEROPAGE, bytearray(region))


def _hold_lock(child: Child, address: str) -> None:
    with _listen(address) as listener:
        child.ready(Endpoint(*listener.getsockname()))
        connection = listener.accept()[0]
    page = _Page()
    sending = threading.Thread(target=connection.send, args=(page.memory,))
    sending.start()
    page.wait()  # Now it is inside send(), with the socket locked.
    child.ready()
    child.stopping(None)
    page.give()
    sending.join()
    connection.close()


def _open(wire: Wire, local: Endpoint) -> tuple[Endpoint, Segment]:
    remote = wire.remote(3)
    ack = final_ack(send_syns(wire, local, [remote])[remote])
    wire.send(ack)
    return remote, ack


def small_receive_buffer(
    server: Host, wire: Wire, *, count: int = 200, comm: str = "small-buffer", mixed: bool = False
) -> Crammed:
    """Send single bytes with gaps to a connection with a small buffer (TCPOFODrop, RcvPruned).

    None can be handed to the program, and each takes the room of a packet. When they are `mixed`,
    the kernel gives up later ones for earlier ones (OfoPruned).
    """
    task = server.spawn_as(comm, _never_read, wire.local(), 60_000 if mixed else 4096)
    local: Endpoint = task.ready()
    remote, ack = _open(wire, local)
    order = random.Random(1).sample(range(count), count) if mixed else range(count)
    for number in order:
        seq = ack.seq + 2 + 2 * number
        wire.send(Segment(remote, local, ACK | PSH, seq, ack.ack, b"x"))
    task.stop()
    return Crammed(local, remote, task.pid, comm, count)


def busy_socket(server: Host, wire: Wire, *, count: int = 600, comm: str = "busy") -> Crammed:
    """Send data to a socket whose process is inside send() and does not come back.

    What arrives meanwhile waits, up to a limit, and the rest is dropped (TCPBacklogDrop).
    """
    task = server.spawn_as(comm, _hold_lock, wire.local())
    local: Endpoint = task.ready()
    remote, ack = _open(wire, local)
    task.ready()
    for number in range(count):
        segment = Segment(remote, local, ACK, ack.seq + 1000 * number, ack.ack, bytes(1000))
        wire.send(segment)
    task.stop()
    return Crammed(local, remote, task.pid, comm, count)
