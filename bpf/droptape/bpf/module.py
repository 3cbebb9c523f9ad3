"""Compiled programs in the kernel: loads them, attaches them, keeps what has to be handed over."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from . import kernel, syscall
from .btf import VMLINUX, Btf
from .compiled import Compiled, address_places, map_places
from .compiler import LoaderError, locked
from .kind import CgroupSocket, Kretprobe, Program, RawTracepoint, Sweep

_ENTRY, _RETURN = 0, 1  # enum bpf_probe_attach_type of libbcc
_NO_BTF = "it takes a kernel with BTF of its own"
_NOT_TOLD = "this kernel does not tell what the program needs"
_ANCHOR_ID, _ANCHOR_POINTER = 1, 2
_ENOTSUPP = 524  # of the kernel alone, so libc has no words for it (include/linux/errno.h)


class Module:
    """The maps and programs of one source.

    Attributes:
        fds: descriptors to hand over, by name (`client.Loaded.fds`).
        programs: descriptors of the programs that are loaded, by function.
    """

    def __init__(self, compiled: Compiled, addresses: Sequence[int], btf: Btf) -> None:
        """Make the maps.

        Args:
            compiled: what to load.
            addresses: the kernel's addresses, by their places.
            btf: the kernel's types.

        Raises:
            LoaderError: the kernel refuses a map.
            OSError: this process has too many open files.
        """
        # Until 5.11 (97306be45fbe) maps count as locked memory.
        with suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        self._code = compiled.programs
        self._btf = btf
        self._maps: dict[str, int] = {}
        for name, shape in compiled.maps.items():
            try:
                self._maps[name] = syscall.map_create(name, shape)
            except OSError as exc:
                if exc.errno in (errno.EMFILE, errno.ENFILE):
                    raise  # the loader says what to do
                why = f"{exc.strerror}{locked(exc)}"
                raise LoaderError(f"the kernel refuses the map {name}: {why}") from exc
        self._descriptors = np.array(list(self._maps.values()), "u4")
        self._addresses = np.array(addresses, "u8").view("u4").reshape(-1, 2)
        self.fds: dict[str, int] = {}
        self.programs: dict[str, int] = {}

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a map."""
        return self._maps[name]

    def load(self, function: str, program_type: int, attach_type: int = 0, target: str = "") -> int:
        """Load one program and return its descriptor.

        Args:
            function: the C function.
            program_type: as for `syscall.program_load`.
            attach_type: as there.
            target: the kernel function that a `TRACING` program is for.

        Raises:
            OSError: the kernel refuses it, or this program or its target does not exist here.
        """
        if function in self.programs:
            return self.programs[function]
        if function not in self._code:
            raise OSError(0, _NOT_TOLD)
        target_id = self._btf.function_id(target) if target else 0
        if target_id is None:
            raise OSError(0, f"this kernel has no function {target}")
        code = np.frombuffer(self._code[function], "u4").copy()
        values = code[1::2]  # of each instruction; an address has the next one's too
        at = map_places(code)
        values[at] = self._descriptors[values[at]]
        at = address_places(code)
        values[at], values[at + 1] = self._addresses[values[at]].T
        fd = syscall.program_load(
            function, code.tobytes(), program_type, attach_type=attach_type, target=target_id
        )
        self.programs[function] = fd
        return fd

    def load_ahead(self, programs: Iterable[Program]) -> None:
        """Load several at the same time; what cannot be loaded is for `attach` to tell."""

        def load(program: Program) -> None:
            with suppress(OSError):
                self._load(program)

        with ThreadPoolExecutor() as threads:
            list(threads.map(load, programs))

    def unattached(self, sweep: Sweep) -> str:
        """Load the program of a sweep; return "" or why it could not be done."""
        try:
            program = self.load(sweep.function, syscall.RAW_TRACEPOINT)
        except OSError as exc:
            return _why(exc)
        self.fds[f"program:{sweep.function}"] = program
        self.fds[f"map:{sweep.map}"] = self.map_fd(sweep.map)
        return ""

    def attach(self, program: Program) -> str:
        """Attach a program; return "" or why it could not be done."""
        try:
            links = self._attach(program)
        except OSError as exc:
            return _why(exc)
        for end, link in enumerate(links):
            self.fds[f"link:{program.function}{end or ''}"] = link
        return ""

    def _load(self, program: Program) -> int:
        if isinstance(program, RawTracepoint):
            return self.load(program.function, syscall.RAW_TRACEPOINT)
        if isinstance(program, CgroupSocket):
            return self.load(program.function, syscall.CGROUP_SOCKET)
        if isinstance(program, Kretprobe):
            return self.load(program.function, syscall.KPROBE)
        if not VMLINUX.exists():
            raise OSError(0, _NO_BTF)
        return self.load(program.function, syscall.TRACING, syscall.FEXIT, program.target)

    def _attach(self, program: Program) -> list[int]:
        if isinstance(program, Kretprobe):
            return self._kretprobe(program)
        fd = self._load(program)
        if isinstance(program, CgroupSocket):
            mount = kernel.cgroup2_mount()
            if mount is None:
                raise OSError(0, "cgroup version 2 is not mounted, or another mount hides it")
            return [syscall.link_socket_creation(fd, str(mount))]
        tracepoint = program.tracepoint if isinstance(program, RawTracepoint) else ""
        return [syscall.open_raw_tracepoint(fd, tracepoint)]

    def _kretprobe(self, program: Kretprobe) -> list[int]:
        # The entry first: an exit without its entry must find nothing.
        fds = {_ENTRY: self.load(program.entry, syscall.KPROBE), _RETURN: self._load(program)}
        from bcc import lib

        links: list[int] = []
        for kind, fd in fds.items():
            event = f"droptape_{os.getpid()}_{kind}".encode()
            link = lib.bpf_attach_kprobe(fd, kind, event, program.target.encode(), 0, 0)
            if link < 0:
                number = -link if link != -1 else ctypes.get_errno()
                for opened in links:
                    os.close(opened)
                raise OSError(number, os.strerror(number))
            links.append(link)
        return links

    def iterator(self, target: str, map_name: str = "") -> str:
        """Attach the program ``bpf_iter__<target>``; return "" or why it could not be done.

        Args:
            target: what it iterates over.
            map_name: the map, where the target is ``bpf_map_elem``.
        """
        if not VMLINUX.exists():
            return _NO_BTF
        try:
            program = self.load(
                f"bpf_iter__{target}", syscall.TRACING, syscall.ITERATOR, f"bpf_iter_{target}"
            )
            over = self.map_fd(map_name) if map_name else None
            self.fds[f"iter:{target}"] = syscall.link_iterator(program, over)
        except OSError as exc:
            return _why(exc)
        return ""

    def find_cpu_bases(self, cpus: int) -> str:
        """Fill `cpu_base` (core/percpu.h); return "" or why it could not be done."""
        settings, bases = self.map_fd("settings"), self.map_fd("cpu_base")
        problem = self.iterator("bpf_map")
        if problem:
            return self._read_cpu_bases(range(cpus))
        try:
            anchor = np.array([syscall.map_id(self.map_fd("anchor"))], "u8")
            syscall.map_update(settings, np.array([_ANCHOR_ID], "u4"), anchor)
            syscall.iterate(self.fds.pop("iter:bpf_map"))
            pointer, base = np.zeros(1, "u8"), np.zeros(1, "u8")
            syscall.map_lookup(settings, np.array([_ANCHOR_POINTER], "u4"), pointer)
            report = self.load("percpu_report", syscall.RAW_TRACEPOINT)
            for cpu in range(cpus):
                try:
                    syscall.run_on_cpu(report, cpu)
                except OSError:  # it is offline, but may come and refuse connections
                    self._read_cpu_bases([cpu])
                    continue
                key = np.array([cpu], "u4")
                syscall.map_lookup(bases, key, base)
                syscall.map_update(bases, key, base - pointer)
        except OSError as exc:
            return f"the kernel's per-CPU memory cannot be found: {exc.strerror}"
        return "" if pointer[0] else "the kernel's per-CPU memory cannot be found"

    def _read_cpu_bases(self, cpus: Iterable[int]) -> str:
        """Fill `cpu_base` from the kernel's own table: where nothing can be run to find them."""
        try:
            report = self.load("percpu_offset", syscall.RAW_TRACEPOINT)
            for cpu in cpus:
                syscall.run(report, cpu)
        except OSError as exc:
            return f"the kernel's per-CPU memory cannot be found: {_why(exc)}"
        return ""


def _why(exc: OSError) -> str:
    if not exc.errno:
        return str(exc.strerror)
    said = "not supported" if exc.errno == _ENOTSUPP else exc.strerror
    what = (
        "the kernel refuses the program"
        if isinstance(exc, syscall.RefusedError)
        else "cannot attach"
    )
    return f"{what}: {said}"
