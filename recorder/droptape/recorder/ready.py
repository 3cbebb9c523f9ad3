"""Telling those who wait that the probes are live."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

_MANAGER = "NOTIFY_SOCKET"
_MANAGER_S = 1.0


def tell(descriptor: int | None) -> None:
    """Write ``ready`` to `descriptor`, and tell the service manager: sd_notify(3).

    Nobody may wait for it any more, and the recorder waits for nobody: a full pipe, or a terminal
    that was stopped, gets it from a thread.
    """
    if descriptor is not None and _takes(descriptor):
        _write(descriptor)
    elif descriptor is not None:
        threading.Thread(target=_write, args=(descriptor,), name="ready", daemon=True).start()
    place = os.environ.get(_MANAGER, "")
    if not place.startswith(("/", "@")):
        return
    # A name that begins with @ is abstract: unix(7).
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(_MANAGER_S)
        manager.connect(place.replace("@", "\0", 1) if place[0] == "@" else place)
        manager.send(b"READY=1\nSTATUS=recording\n")


def _takes(descriptor: int) -> bool:
    """Say whether a write would not be waited for, as far as that can be told."""
    asked = select.poll()
    asked.register(descriptor, select.POLLOUT)
    return bool(asked.poll(0))


def _write(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, b"ready\n")
