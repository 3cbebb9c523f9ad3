"""The recorder's side of the loader: starts it and takes over what it attached."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from droptape.format.manifest import Probe

from .compiler import LoaderError
from .process import LoaderProcess
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
        fds: descriptors by name: ``ring:<table>``, ``map:<name>``, ``iter:<name>``, ``link:…``, and
            ``runs:<table>/<function>`` for a program of which each run is an event.
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


class Loader:
    """The loader's process: it compiles and loads while the caller prepares to record."""

    def __init__(
        self,
        kinds: Sequence[str],
        *,
        record_benign: bool = False,
        track_io: bool = False,
        max_rate: int = 0,
        btf: Path | None = None,
        process: LoaderProcess | None = None,
    ) -> None:
        """Tell it what to prepare.

        Args:
            kinds: names of event kinds.
            record_benign: also make rows for drops that are part of normal operation.
            track_io: also watch every message, to know who uses a socket that several have open.
            max_rate: rows of one key of the totals, per second and processor, above which rows
                are sampled; 0 for no limit.
            btf: the running kernel's BTF, for kernels without one of their own.
            process: where it began already.
        """
        self._process = process or LoaderProcess()
        self._channel = self._process.channel
        self._channel.settimeout(_TIMEOUT_S)
        request = {
            "kinds": list(kinds),
            "record_benign": record_benign,
            "track_io": track_io,
            "max_rate": max_rate,
            "btf": str(btf.absolute()) if btf else "",
        }
        with suppress(OSError):  # `attach` tells why it ended
            self._channel.sendall(json.dumps(request).encode() + b"\n")

    def attach(self) -> Loaded:
        """Have it attach the programs, take them over, and end it.

        Raises:
            LoaderError: nothing could be attached; the text says why and what to do.
        """
        with closing(self):
            report, fds = self._answer()
        return Loaded(
            kinds=report["kinds"],
            probes=[Probe(**probe) for probe in report["probes"]],
            reasons=[Reason(*reason) for reason in report["reasons"]],
            cpus=report["cpus"],
            totals_entries=report["totals_entries"],
            fds=dict(zip(report["fds"], fds, strict=True)),
        )

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        """Return its report and the descriptors; LoaderError when it cannot give them."""
        with suppress(OSError):  # it may have said what is wrong, and ended
            self._channel.sendall(b"attach\n")
        try:
            size = int.from_bytes(_receive(self._channel, 4), "little")
            report: dict[str, Any] = json.loads(_receive(self._channel, size))
            fds = _receive_fds(self._channel, len(report.get("fds", ())))
        except (OSError, EOFError) as exc:
            child, errors = self._process.child, self._process.errors
            with suppress(subprocess.TimeoutExpired):
                child.wait(2)  # it may be telling why
            ended = child.returncode
            child.kill()
            child.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            last = said[-1] if said else _why(ended) or str(exc)
            raise LoaderError(f"the loader ended before it was done: {last}") from exc
        if "error" in report:
            raise LoaderError(report["error"])
        return report, fds

    def close(self) -> None:
        """End it, if it has not ended."""
        self._process.close()


def load(
    kinds: Sequence[str],
    *,
    record_benign: bool = False,
    track_io: bool = False,
    max_rate: int = 0,
    btf: Path | None = None,
) -> Loaded:
    """Compile and attach the programs of the event kinds called `kinds`, as `Loader` does.

    Raises:
        LoaderError: nothing could be attached; the text says why and what to do.
    """
    return Loader(
        kinds, record_benign=record_benign, track_io=track_io, max_rate=max_rate, btf=btf
    ).attach()


def _why(ended: int | None) -> str:
    """Say which signal ended a process; "" when none did."""
    if ended is None or ended >= 0:
        return ""
    name = signal.Signals(-ended).name if -ended in set(signal.Signals) else f"signal {-ended}"
    memory = ": is there enough memory for a compiler?" if -ended == signal.SIGKILL else ""
    return f"{name} killed it{memory}"


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
        data, ancillary, flags, _ = channel.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if flags & socket.MSG_CTRUNC:
            raise LoaderError("too many open files: raise the limit (ulimit -n)")
        if not data:
            raise EOFError("it closed the connection")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)
