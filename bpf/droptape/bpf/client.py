"""The recorder's side of the loader: starts it and takes over what it attached."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from droptape.format.manifest import Probe

from .loader import LoaderError
from .reasons import Reason

_TIMEOUT_S = 300.0  # an emulated processor may need minutes for what takes a second


@dataclass(slots=True)
class Loaded:
    """Programs that are attached as long as their descriptors are open.

    Attributes:
        kinds: names of the event tables, in the order of their numbers in the kernel.
        probes: every hook with how it was attached or why not.
        reasons: the kernel's names for its numbers.
        cpus: possible CPUs, the values per key of a per-CPU map.
        totals_entries: capacity of the totals map.
        fds: descriptors by name: ``ring:<table>``, ``map:<name>``, ``iter:<name>``, ``link:…``.
    """

    kinds: list[str]
    probes: list[Probe]
    reasons: list[Reason]
    cpus: int
    totals_entries: int
    fds: dict[str, int] = field(default_factory=dict)

    def enums(self) -> dict[str, dict[int, str]]:
        """Return the names of each kernel enum by number, for `Table.with_enums`."""
        out: dict[str, dict[int, str]] = {}
        for reason in self.reasons:
            out.setdefault(reason.enum, {})[reason.value] = reason.name
        return out

    def close(self) -> None:
        """Detach everything."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


def load(
    kinds: Sequence[str],
    *,
    record_benign: bool = False,
    track_io: bool = False,
    max_rate: int = 0,
    btf: Path | None = None,
) -> Loaded:
    """Compile and attach the programs of the event kinds called `kinds`.

    Args:
        kinds: names of event kinds.
        record_benign: also make rows for drops that are part of normal operation.
        track_io: also watch every message, to know who uses a socket that several have open.
        max_rate: rows of one key of the totals, per second and processor, above which rows are
            sampled; 0 for no limit.
        btf: the running kernel's BTF, for kernels without one of their own.

    Raises:
        LoaderError: nothing could be attached; the text says why and what to do.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "droptape.bpf.loader", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(_TIMEOUT_S)
        try:
            request = {
                "kinds": list(kinds),
                "record_benign": record_benign,
                "track_io": track_io,
                "max_rate": max_rate,
                "btf": str(btf.absolute()) if btf else "",
            }
            ours.sendall(json.dumps(request).encode() + b"\n")
            report = json.loads(_receive(ours, int.from_bytes(_receive(ours, 4), "little")))
            fds = _receive_fds(ours, len(report.get("fds", ())))
        except (OSError, EOFError) as exc:
            child.kill()
            child.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            last = said[-1] if said else str(exc)
            raise LoaderError(f"the loader ended before it was done: {last}") from exc
        child.wait()
        if "error" in report:
            raise LoaderError(report["error"])
    return Loaded(
        kinds=report["kinds"],
        probes=[Probe(**probe) for probe in report["probes"]],
        reasons=[Reason(*reason) for reason in report["reasons"]],
        cpus=report["cpus"],
        totals_entries=report["totals_entries"],
        fds=dict(zip(report["fds"], fds, strict=True)),
    )


def _receive(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise EOFError("it closed the connection")
        data += part
    return data


def _receive_fds(channel: socket.socket, count: int) -> list[int]:
    fds = array.array("i")
    while len(fds) < count:
        room = socket.CMSG_SPACE(256 * fds.itemsize)
        data, ancillary, _, _ = channel.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise EOFError("it closed the connection")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)
