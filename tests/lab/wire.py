"""The far end of a network, played by the test itself.

A `Wire` is a tun device of a host: what the test writes, the host receives;
what the host sends that way, the test reads. So remote clients can send exactly
the packets a case needs, from any number of addresses, and no other kernel
answers, resets or drops anything of its own.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lab import process
from lab.net import Host
from lab.packet import Endpoint, Segment, build, parse

# include/uapi/linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_TUN_NODE = Path("/dev/net/tun")
_TUN_DEVICE = os.makedev(10, 200)


def _make_tun(name: str) -> int:
    """Make a tun device in this process's namespace; return its descriptor."""
    if not _TUN_NODE.exists():
        _TUN_NODE.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(_TUN_NODE, 0o600 | stat.S_IFCHR, _TUN_DEVICE)
    descriptor = os.open(_TUN_NODE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(descriptor, _TUNSETIFF, request)
    return descriptor


class Wire:
    """A point-to-point network of a host whose other side is this process.

    The host has the first address of each network; `remote` gives the others.
    Use it as a context manager: the device goes when it is closed.
    """

    def __init__(
        self,
        host: Host,
        *,
        name: str = "wire0",
        v4: str = "10.78.0.0/16",
        v6: str = "fd78::/64",
    ) -> None:
        self._networks = {4: ipaddress.ip_network(v4), 6: ipaddress.ip_network(v6)}
        ours, theirs = socket.socketpair()
        with ours, theirs:
            host.call(lambda: socket.send_fds(theirs, [b"tun"], [_make_tun(name)]))
            _, (self._tun,), _, _ = socket.recv_fds(ours, 8, 1)
        process.keep_from_children(self._tun)
        lines = [f"link set {name} addrgenmode none", f"link set {name} up"]
        for version, network in self._networks.items():
            nodad = " nodad" if version == 6 else ""
            local = f"{self.local(version)}/{network.prefixlen}"
            lines.append(f"address add {local} dev {name}{nodad}")
        host.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the device."""
        process.forget_descriptor(self._tun)
        os.close(self._tun)

    def local(self, version: int = 4) -> str:
        """Return the host's own address on the wire."""
        return str(self._networks[version][1])

    def remote(self, number: int, version: int = 4, *, port: int = 40000) -> Endpoint:
        """Return the remote client with this number, counted from 0."""
        return Endpoint(str(self._networks[version][2 + number]), port)

    def send(self, segment: Segment) -> None:
        """Let the host receive a segment."""
        self.send_packet(build(segment))

    def send_packet(self, packet: bytes) -> None:
        """Let the host receive an IP packet, as it is."""
        os.write(self._tun, packet)

    def receive(self, quiet: float = 0.2) -> Iterator[Segment]:
        """Yield the TCP segments that the host sends, until none comes for `quiet` seconds."""
        end = time.monotonic() + quiet
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._tun], [], [], left)[0]:
                return
            segment = parse(os.read(self._tun, 65536))
            if segment is not None:
                yield segment
                end = time.monotonic() + quiet
