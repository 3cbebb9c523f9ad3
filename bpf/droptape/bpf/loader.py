"""Makes, compiles and attaches the programs, in a process of its own.

The recorder starts it (`client.Loader`) with a request over a socket. Programs are made and loaded
at once, and attached when the recorder says so; it gets the descriptors of every map, link and
iterator. Then this process ends, and with it LLVM's memory. What it attached lives on through the
descriptors.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from droptape.format.errors import DroptapeError
from droptape.format.manifest import Probe
from droptape.format.tables import LISTENERS

from . import kernel, sizes, syscall
from .btf import VMLINUX, Btf
from .compiler import compiled
from .kind import CgroupSocket, EventKind, Fewer, Hook, Program, RawTracepoint
from .kinds import all_kinds
from .module import Module
from .reasons import reasons
from .source import source_for

TRACKERS = (
    Hook("inet_sock_set_state", (RawTracepoint("inet_sock_set_state", "track_state"),)),
    Hook("tcp_destroy_sock", (RawTracepoint("tcp_destroy_sock", "track_destroy"),)),
    Hook("udp_socket", (CgroupSocket("track_udp_socket"),)),
)
# Run for every message, so only on request.
IO_TRACKERS = (
    Hook("sock_send_length", (RawTracepoint("sock_send_length", "track_send"),)),
    Hook("sock_recv_length", (RawTracepoint("sock_recv_length", "track_receive"),)),
)
_SHARED_MAPS = (
    "totals",
    "lost",
    "settings",
    "cpu_base",
    "owners",
    "holders",
    "flows",
    "listeners",
    "refusals",
    "udp_ports",
)
_NUMBERS = "linux_mib"  # a struct of numbers only, for core/read.h
_FDS_PER_MESSAGE = 200


def _cast(btf: Btf) -> tuple[int, int]:
    """Return the ids of bpf_rdonly_cast and of the struct to cast to; 0 where it cannot be used."""
    function, type_id = btf.function_id("bpf_rdonly_cast"), btf.struct_id(_NUMBERS)
    if function and type_id and VMLINUX.exists() and syscall.can_cast(function, type_id):
        return function, type_id
    return 0, 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Programs in the kernel that nothing runs yet.

    Attributes:
        kinds: the event kinds.
        module: their maps and programs.
        btf: the kernel's types.
        cpus: possible CPUs.
        trackers: what tells whose a socket is.
        wanted: the hooks of the kinds that this kernel needs.
        percpu_problem: why refused connections cannot be told apart, "" when they can.
    """

    kinds: Sequence[EventKind]
    module: Module
    btf: Btf
    cpus: int
    trackers: Sequence[Hook]
    wanted: Sequence[Hook]
    percpu_problem: str


def prepare(
    kinds: Sequence[EventKind],
    *,
    record_benign: bool,
    track_io: bool = False,
    max_rate: int = 0,
    btf_file: Path = VMLINUX,
) -> Prepared:
    """Compile and load the programs of `kinds`.

    Raises:
        LoaderError, BtfError: nothing can be loaded.
    """
    btf = Btf.load(btf_file)
    cast, cast_type = _cast(btf)
    source = source_for(
        kinds, btf, cast_type, record_benign=record_benign, track_io=track_io, max_rate=max_rate
    )
    module = Module(compiled(source.texts, cast), source.addresses, btf)
    cpus = kernel.possible_cpus()
    trackers = TRACKERS + IO_TRACKERS if track_io else TRACKERS
    wanted = [hook for kind in kinds for hook in kind.hooks if _is_wanted(btf, hook)]
    module.load_ahead(
        hook.programs[0] for hook in (*trackers, *wanted) if not _absent(btf, hook.programs[0])
    )
    return Prepared(kinds, module, btf, cpus, trackers, wanted, module.find_cpu_bases(cpus))


def attach(prepared: Prepared) -> tuple[dict[str, Any], list[int]]:
    """Attach what was prepared.

    Returns:
        What the recorder needs to know, as JSON values (probes, kinds, reasons, and for every
        descriptor its name), and the descriptors in the same order.
    """
    module, btf, kinds = prepared.module, prepared.btf, prepared.kinds
    probes = [_attach(module, btf, "owners", hook) for hook in prepared.trackers]
    problem = module.iterator("task_file")
    mechanism = "" if problem else "iterator task_file"
    probes.append(Probe("owners/scan", "owners", mechanism, not problem, problem))
    problem = module.iterator("bpf_map_elem", "listeners")
    mechanism = "" if problem else "iterator bpf_map_elem"
    probes.append(Probe("listeners/sample", LISTENERS.name, mechanism, not problem, problem))
    for kind in kinds:
        for hook in kind.hooks:
            if hook not in prepared.wanted:
                continue
            probe = _attach(module, btf, kind.table.name, hook)
            if kind.table.name == "listen" and prepared.percpu_problem and probe.attached:
                # It runs, but without the kernel's counters it tells nothing.
                problem = f"refused connections cannot be told apart: {prepared.percpu_problem}"
                probe = Probe(probe.name, probe.table, "", False, problem)
            probes.append(probe)
        for sweep in kind.sweeps:
            problem = module.unattached(sweep)
            name = f"{kind.table.name}/{sweep.function}"
            mechanism = "" if problem else f"run for every key of {sweep.map}"
            probes.append(Probe(name, kind.table.name, mechanism, not problem, problem))
    fds = dict(module.fds)
    for name in _SHARED_MAPS:
        fds[f"map:{name}"] = module.map_fd(name)
    for kind in kinds:
        fds[f"ring:{kind.table.name}"] = module.map_fd(f"ring_{kind.table.name}")
    report = {
        "probes": [asdict(probe) for probe in probes],
        "kinds": [kind.table.name for kind in kinds],
        "reasons": [tuple(reason) for reason in reasons(btf)],
        "cpus": prepared.cpus,
        "totals_entries": sizes.TOTALS_ENTRIES,
        "fds": list(fds),
    }
    return report, list(fds.values())


def _is_wanted(btf: Btf, hook: Hook) -> bool:
    return hook.only_if is None or _fewer(btf, hook.only_if)


def _fewer(btf: Btf, fewer: Fewer) -> bool:
    return (btf.tracepoint_arguments(fewer.tracepoint) or 0) < fewer.arguments


def _attach(module: Module, btf: Btf, table: str, hook: Hook) -> Probe:
    """Attach the first program of `hook` that works, and say in the probe what is missing."""
    name = f"{table}/{hook.name}"
    problems: list[str] = []
    for program in hook.programs:
        problem = _absent(btf, program) or module.attach(program)
        if not problem:
            if hook.each_run_an_event:
                module.fds[f"runs:{table}/{program.function}"] = module.programs[program.function]
            if hook.interrupting:
                module.attach(hook.interrupting)  # without it, what it makes up for is lost
            lacks = [fewer.note for fewer in hook.lacks if _fewer(btf, fewer)]
            return Probe(name, table, program.mechanism, True, "; ".join(lacks))
        problems.append(f"{program.mechanism}: {problem}")
    return Probe(name, table, "", False, "; ".join(problems))


def _absent(btf: Btf, program: Program) -> str:
    if isinstance(program, RawTracepoint) and btf.tracepoint_arguments(program.tracepoint) is None:
        return "this kernel has no such tracepoint"
    return ""


def _serve(channel: socket.socket) -> None:
    asked = channel.makefile("rb")
    request = json.loads(asked.readline())
    known = all_kinds()
    # bcc has clang look for headers where it was started, before all other places: that may belong
    # to anybody, or be closed to this process, or be gone.
    os.chdir("/")
    try:
        prepared = prepare(
            [known[name] for name in request["kinds"]],
            record_benign=request["record_benign"],
            track_io=request["track_io"],
            max_rate=request["max_rate"],
            btf_file=Path(request["btf"] or VMLINUX),
        )
        if not asked.readline():
            return  # the recorder does not begin
        report, fds = attach(prepared)
    except DroptapeError as exc:
        report, fds = {"error": str(exc)}, []
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        report, fds = {"error": "too many open files: raise the limit (ulimit -n)"}, []
    text = json.dumps(report).encode()
    channel.sendall(len(text).to_bytes(4, "little") + text)
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        part = array.array("i", fds[at : at + _FDS_PER_MESSAGE])
        channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)])


def main() -> None:
    """Serve one request over the socket that the first argument is the descriptor of."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection)
