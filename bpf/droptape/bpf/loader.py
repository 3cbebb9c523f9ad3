"""Compiles and attaches the programs with bcc, in a process of its own.

The recorder starts ``python -m droptape.bpf.loader FD`` and gets, over the socket FD, the
descriptors of every map, link and iterator (`client.load` is its side). Then this process ends,
and with it LLVM's memory. What it attached lives on through the descriptors.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from droptape.format.errors import DroptapeError
from droptape.format.manifest import Probe
from droptape.format.tables import LISTENERS, LOSS_CAUSE

from . import codegen, kernel, syscall
from .btf import VMLINUX, Btf
from .kind import (
    CgroupSocket,
    EventKind,
    Fewer,
    Fexit,
    Hook,
    Kretprobe,
    Program,
    RawTracepoint,
    Sweep,
)
from .kinds import all_kinds
from .reasons import reasons

ROOT = Path(__file__).parent
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
TOTALS_ENTRIES, OWNER_ENTRIES, PORT_ENTRIES, LISTENER_ENTRIES = 16384, 65536, 65536, 16384
HOLDER_ENTRIES, FLOW_BITS = 65536, 17
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
CAST_CALL, _CALL = 0x7FFF0001, 0x85  # a helper that no kernel has; the instruction that calls one
_NUMBERS = "linux_mib"  # a struct of numbers only, for core/read.h
CONNECTION_ENTRIES = 131072
_CGROUP_SOCK = 9  # BPF_PROG_TYPE_CGROUP_SOCK
_ENTRY, _RETURN = 0, 1  # enum bpf_probe_attach_type of libbcc
_NO_BTF = "it takes a kernel with BTF of its own"
_ANCHOR_ID, _ANCHOR_POINTER = 1, 2
_FDS_PER_MESSAGE = 200
# bcc optimizes what clang gives it, so clang need not do it too, and nobody reads the debug
# information: without both it compiles in two thirds of the time.
_CFLAGS = ["-Wno-duplicate-decl-specifier", "-g0", "-Xclang", "-disable-llvm-passes"]


class LoaderError(DroptapeError):
    """The programs cannot be compiled or loaded at all."""


class _Module:
    """The compiled programs: loads, attaches, and keeps what has to be handed over."""

    def __init__(self, source: str, cast: int = 0) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(ROOT / "headers")
        try:
            from bcc import BPF, lib
        except ImportError as exc:
            raise LoaderError(
                "the Python module of bcc is missing: install python3-bpfcc (Debian, Ubuntu) or "
                "python3-bcc (Fedora, RHEL), and run droptape-record with the system's Python or "
                "a virtual environment made from it with --system-site-packages"
            ) from exc
        self._bpf, self._lib = BPF, lib
        try:
            # bcc would attach every function whose name starts with kretfunc__ by itself.
            only_compiled = type("BPF", (BPF,), {"_trace_autoload": lambda self: None})
            self._module = only_compiled(text=source, cflags=_CFLAGS)
        except Exception as exc:  # bcc raises nothing more precise
            raise LoaderError(f"bcc cannot compile the programs: {exc}") from exc
        self.fds: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self._cast = cast

    def _call_kernel(self, function: str) -> None:
        """Make the calls of CAST_CALL calls of bpf_rdonly_cast, which bcc's compiler cannot."""
        name = function.encode()
        start = self._lib.bpf_function_start(self._module.module, name)
        if not start:
            return
        size = self._lib.bpf_function_size(self._module.module, name)
        code = np.frombuffer((ctypes.c_uint32 * (size // 4)).from_address(start), "u4")
        calls = np.flatnonzero((code[::2] == _CALL) & (code[1::2] == CAST_CALL))
        code[2 * calls], code[2 * calls + 1] = syscall.KERNEL_CALL, self._cast

    def load(self, function: str, program_type: int) -> int:
        """Load one program; OSError or Exception from bcc when the kernel refuses it."""
        if self._cast:
            self._call_kernel(function)
        fd = int(self._module.load_func(function, program_type).fd)
        self.programs[function] = fd
        return fd

    def unattached(self, sweep: Sweep) -> str:
        """Load the program of a sweep; return "" or why it could not be done."""
        try:
            program = self.load(sweep.function, self._bpf.RAW_TRACEPOINT)
        except Exception as exc:  # noqa: BLE001
            return f"the kernel refuses the program: {exc}"
        self.fds[f"program:{sweep.function}"] = program
        self.fds[f"map:{sweep.map}"] = self.map_fd(sweep.map)
        return ""

    def attach(self, program: Program) -> str:
        """Attach a program; return "" or why it could not be done."""
        try:
            if isinstance(program, RawTracepoint):
                fd = self.load(program.function, self._bpf.RAW_TRACEPOINT)
                links = [self._lib.bpf_attach_raw_tracepoint(fd, program.tracepoint.encode())]
            elif isinstance(program, Fexit):
                links = [self._lib.bpf_attach_kfunc(self.load(program.function, self._bpf.TRACING))]
            elif isinstance(program, CgroupSocket):
                mount = kernel.cgroup2_mount()
                if mount is None:
                    return "cgroup version 2 is not mounted"
                fd = self.load(program.function, _CGROUP_SOCK)
                links = [syscall.link_socket_creation(fd, str(mount))]
            else:
                links = self._kretprobe(program)
        except Exception as exc:  # noqa: BLE001
            if "Unknown program" in str(exc):
                return "this kernel does not tell what the program needs"
            return f"the kernel refuses the program: {exc}"
        if min(links) < 0:
            number = -min(links) if min(links) != -1 else ctypes.get_errno()
            for link in links:
                if link >= 0:
                    os.close(link)
            return f"cannot attach: {os.strerror(number)}"
        for end, link in enumerate(links):
            self.fds[f"link:{program.function}{end or ''}"] = link
        return ""

    def _kretprobe(self, program: Kretprobe) -> list[int]:
        # The entry first: an exit without its entry must find nothing.
        functions = {_ENTRY: program.entry, _RETURN: program.function}
        fds = {kind: self.load(name, self._bpf.KPROBE) for kind, name in functions.items()}
        return [
            self._lib.bpf_attach_kprobe(
                fd, kind, f"droptape_{os.getpid()}_{kind}".encode(), program.target.encode(), 0, 0
            )
            for kind, fd in fds.items()
        ]

    def iterator(self, target: str, map_name: str = "") -> str:
        """Attach the program ``bpf_iter__<target>``; return "" or why it could not be done.

        Args:
            target: what it iterates over.
            map_name: the map, where the target is ``bpf_map_elem``.
        """
        if not VMLINUX.exists():
            return _NO_BTF
        try:
            program = self.load(f"bpf_iter__{target}", self._bpf.TRACING)
        except Exception as exc:  # noqa: BLE001
            return f"the kernel refuses the program: {exc}"
        if map_name:  # union bpf_iter_link_info: the map's descriptor
            info = ctypes.c_uint32(self.map_fd(map_name))
            link = self._lib.bcc_iter_attach(program, ctypes.byref(info), ctypes.sizeof(info))
        else:
            link = self._lib.bcc_iter_attach(program, None, 0)
        if link < 0:
            return f"cannot attach: {os.strerror(-link)}"
        self.fds[f"iter:{target}"] = link
        return ""

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a map."""
        return int(self._lib.bpf_table_fd(self._module.module, name.encode()))

    def find_cpu_bases(self, cpus: int) -> str:
        """Fill `cpu_base` (core/percpu.h); return "" or why it could not be done."""
        settings, bases = self.map_fd("settings"), self.map_fd("cpu_base")
        problem = self.iterator("bpf_map")
        if problem:
            return self._read_cpu_bases(cpus)
        try:
            anchor = np.array([syscall.map_id(self.map_fd("anchor"))], "u8")
            syscall.map_update(settings, np.array([_ANCHOR_ID], "u4"), anchor)
            syscall.iterate(self.fds.pop("iter:bpf_map"))
            pointer, base = np.zeros(1, "u8"), np.zeros(1, "u8")
            syscall.map_lookup(settings, np.array([_ANCHOR_POINTER], "u4"), pointer)
            report = self.load("percpu_report", self._bpf.RAW_TRACEPOINT)
            for cpu in range(cpus):
                try:
                    syscall.run_on_cpu(report, cpu)
                except OSError:
                    continue  # a CPU that is offline has nothing to read
                key = np.array([cpu], "u4")
                syscall.map_lookup(bases, key, base)
                syscall.map_update(bases, key, base - pointer)
        except OSError as exc:
            return f"the kernel's per-CPU memory cannot be found: {exc.strerror}"
        return "" if pointer[0] else "the kernel's per-CPU memory cannot be found"

    def _read_cpu_bases(self, cpus: int) -> str:
        """Fill `cpu_base` from the kernel's own table: where there are no iterators."""
        try:
            report = self.load("percpu_offset", self._bpf.RAW_TRACEPOINT)
        except Exception as exc:  # noqa: BLE001
            return f"the kernel's per-CPU memory cannot be found: {exc}"
        for cpu in range(cpus):
            try:
                syscall.run_on_cpu(report, cpu)
            except OSError:
                continue
        return ""


def cast(btf: Btf) -> tuple[int, int]:
    """Return the ids of bpf_rdonly_cast and of the struct to cast to; 0 where it cannot be used."""
    function, type_id = btf.function_id("bpf_rdonly_cast"), btf.struct_id(_NUMBERS)
    if function and type_id and VMLINUX.exists() and syscall.can_cast(function, type_id):
        return function, type_id
    return 0, 0


def source_for(
    kinds: Sequence[EventKind],
    btf: Btf,
    *,
    record_benign: bool,
    track_io: bool = False,
    max_rate: int = 0,
) -> str:
    """Return the whole C source for `kinds` on the running kernel."""
    core = ("track.c", "track_io.c") if track_io else ("track.c",)
    paths = [*(ROOT / "core" / name for name in core), *(kind.source for kind in kinds)]
    joined = codegen.join_sources(paths, ROOT)
    cpus = kernel.possible_cpus()
    _, cast_type = cast(btf)
    constants = {
        "CPUS": cpus,
        "JIFFY_US": kernel.jiffy_us(),
        "RECORD_BENIGN": int(record_benign),
        "MAX_RATE": max_rate,
        "TOTALS_ENTRIES": TOTALS_ENTRIES,
        "OWNER_ENTRIES": OWNER_ENTRIES,
        "PORT_ENTRIES": PORT_ENTRIES,
        "FLOW_BITS": FLOW_BITS,
        "HOLDER_ENTRIES": HOLDER_ENTRIES,
        "LISTENER_ENTRIES": LISTENER_ENTRIES,
        "CAN_CAST": int(bool(cast_type)),
        "CAST_CALL": CAST_CALL,
        "CAST_TYPE": cast_type,
        "CAN_EXCHANGE": int(syscall.can_exchange()),
        "PER_CPU_OFFSETS": f"{kernel.symbol('__per_cpu_offset'):#x}ULL",
        "CONNECTION_ENTRIES": CONNECTION_ENTRIES,
        "LOST_CAUSES": len(LOSS_CAUSE.values),
        **{f"LOST_{cause.upper()}": number for number, cause in LOSS_CAUSE.values.items()},
        "REFUSAL_ENTRIES": max(4096, 512 * cpus),
    }
    page = os.sysconf("SC_PAGE_SIZE")
    functions = kernel.function_ranges(codegen.function_names(joined))
    return "".join(
        (
            *(f"#define {name} {value}\n" for name, value in constants.items()),
            codegen.kernel_facts(joined, btf, functions),
            codegen.c_row(LISTENERS),
            codegen.declarations(
                [k.table for k in kinds], {k.table.name: k.ring_bytes // page for k in kinds}
            ),
            joined,
        )
    )


def load(
    kinds: Sequence[EventKind],
    *,
    record_benign: bool,
    track_io: bool = False,
    max_rate: int = 0,
    btf_file: Path = VMLINUX,
) -> tuple[dict[str, Any], list[int]]:
    """Compile, load and attach the programs of `kinds`.

    Returns:
        What the recorder needs to know, as JSON values (probes, kinds, reasons, and for every
        descriptor its name), and the descriptors in the same order.

    Raises:
        LoaderError, BtfError: nothing can be loaded.
    """
    btf = Btf.load(btf_file)
    module = _Module(
        source_for(kinds, btf, record_benign=record_benign, track_io=track_io, max_rate=max_rate),
        cast(btf)[0],
    )
    cpus = kernel.possible_cpus()
    percpu_problem = module.find_cpu_bases(cpus)
    trackers = TRACKERS + IO_TRACKERS if track_io else TRACKERS
    probes = [_attach(module, btf, "owners", hook) for hook in trackers]
    problem = module.iterator("task_file")
    mechanism = "" if problem else "iterator task_file"
    probes.append(Probe("owners/scan", "owners", mechanism, not problem, problem))
    problem = module.iterator("bpf_map_elem", "listeners")
    mechanism = "" if problem else "iterator bpf_map_elem"
    probes.append(Probe("listeners/sample", LISTENERS.name, mechanism, not problem, problem))
    for kind in kinds:
        for hook in kind.hooks:
            if hook.only_if and not _fewer(btf, hook.only_if):
                continue
            probe = _attach(module, btf, kind.table.name, hook)
            if kind.table.name == "listen" and percpu_problem and probe.attached:
                # It runs, but without the kernel's counters it tells nothing.
                problem = f"refused connections cannot be told apart: {percpu_problem}"
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
        "cpus": cpus,
        "totals_entries": TOTALS_ENTRIES,
        "fds": list(fds),
    }
    return report, list(fds.values())


def _fewer(btf: Btf, fewer: Fewer) -> bool:
    return (btf.tracepoint_arguments(fewer.tracepoint) or 0) < fewer.arguments


def _attach(module: _Module, btf: Btf, table: str, hook: Hook) -> Probe:
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
    if isinstance(program, Fexit) and not VMLINUX.exists():
        return _NO_BTF
    return ""


def _serve(channel: socket.socket) -> None:
    request = json.loads(channel.makefile("rb").readline())
    known = all_kinds()
    try:
        kinds = [known[name] for name in request["kinds"]]
        report, fds = load(
            kinds,
            record_benign=request["record_benign"],
            track_io=request["track_io"],
            max_rate=request["max_rate"],
            btf_file=Path(request["btf"] or VMLINUX),
        )
    except DroptapeError as exc:
        report, fds = {"error": str(exc)}, []
    text = json.dumps(report).encode()
    channel.sendall(len(text).to_bytes(4, "little") + text)
    for at in range(0, len(fds), _FDS_PER_MESSAGE):
        part = array.array("i", fds[at : at + _FDS_PER_MESSAGE])
        channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)])


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection)
