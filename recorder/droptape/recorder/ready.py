"""Telling those who wait that the probes are live."""

from __future__ import annotations

import contextlib
import os
import socket

_MANAGER = "NOTIFY_SOCKET"


def tell(descriptor: int | None) -> None:
    """Write ``ready`` to `descriptor`, and tell the service manager: sd_notify(3).

    Nobody may wait for it any more.
    """
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(descriptor, b"ready\n")
    place = os.environ.get(_MANAGER, "")
    if not place.startswith(("/", "@")):
        return
    # A name that begins with @ is abstract: unix(7).
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(place.replace("@", "\0", 1) if place[0] == "@" else place)
        manager.send(b"READY=1\nSTATUS=recording\n")
