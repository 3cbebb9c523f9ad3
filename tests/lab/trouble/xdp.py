"""Packets that a program at the device throws away."""

from __future__ import annotations

import json
import os
import socket
import struct

from droptape.bpf import syscall
from lab.net import Host, Link
from lab.process import Child
from lab.trouble.devices import Burst, send_datagrams
from lab.trouble.sockets import endpoint, family_of

_XDP = 6  # BPF_PROG_TYPE_XDP
_GENERIC, _BY_DRIVER = 2, 4  # XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
_DROP = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
"""r0 = XDP_DROP; exit"""


def _drop_all(child: Child, address: str, device: str, by_driver: bool) -> None:
    from bcc import lib

    mode = _BY_DRIVER if by_driver else _GENERIC
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as reader:
        reader.bind((address, 0))
        program = syscall.program_load("drop", _DROP, _XDP)
        failed = -lib.bpf_attach_xdp(device.encode(), program, mode)
        if failed > 0:
            raise OSError(failed, os.strerror(failed))
        child.ready(endpoint(reader))
        child.stopping(None)
        lib.bpf_attach_xdp(device.encode(), -1, mode)


def xdp_drop(server: Host, client: Host, link: Link, *, by_driver: bool, count: int = 20) -> Burst:
    """Send datagrams to a socket behind an XDP program that drops all packets.

    Args:
        server: has the program and the socket.
        client: sends.
        link: between both.
        by_driver: the program runs in the driver, not behind it (netif_receive_generic_xdp).
        count: how many.
    """
    address, device = link.address(server), link.device(server)
    (found,) = json.loads(server.run(["ip", "-json", "link", "show", device]))
    # The program drops ARP too.
    neighbour = ["to", address, "lladdr", found["address"], "dev", link.device(client)]
    client.run(["ip", "neigh", "replace", *neighbour])
    reader = server.spawn_as("behind", _drop_all, address, device, by_driver)
    burst = send_datagrams(client, reader.ready(), count, 100)
    reader.stop()
    return burst
