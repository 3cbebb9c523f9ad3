"""From C to programs, with bcc."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib.util
import os
import resource
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from droptape.format.errors import DroptapeError

from . import syscall
from .compiled import Cache, Compiled, joined, map_places

HEADERS = Path(__file__).parent / "headers"
CAST_CALL = 0x7FFF0001
"""The helper that the sources call for bpf_rdonly_cast (core/read.h); no kernel has one so high."""
_CALL = 0x85  # BPF_CALL of a helper
# bcc optimizes what clang gives it, so clang need not do it too, and nobody reads the debug
# information: without both it compiles in two thirds of the time.
_CFLAGS = ["-Wno-duplicate-decl-specifier", "-g0", "-Xclang", "-disable-llvm-passes"]

_LARGE = syscall.MapShape(type=2, key_bytes=4, value_bytes=8, entries=1 << 20, flags=0)
"""An array (BPF_MAP_TYPE_ARRAY) that takes as much as some maps here."""


class LoaderError(DroptapeError):
    """The programs cannot be compiled or loaded at all."""


def compiled(
    sources: list[str] | tuple[str, ...], cast: int, cache: Cache | None = None
) -> Compiled:
    """Return the programs of `sources`, compiled now or before.

    Args:
        sources: the C sources; each is whole, and maps of the same name are the same.
        cast: BTF id of the kernel function bpf_rdonly_cast, 0 when the source does not call it.
        cache: where to look and keep; the host's or the service's by default.

    Raises:
        LoaderError: they cannot be compiled; the text says why and what to do.
    """
    cache = cache or Cache.of_this_user()
    text = "\n".join((f"{_compiler()} {_CFLAGS} {cast}", *sources))
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    found = cache.find(key)
    if found is None:
        found = _compile(sources, cast)
        cache.keep(key, found)
    return found


def _compiler() -> str:
    """Tell one installation of bcc from another, without importing it: that takes its time."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return ""
    found = Path(spec.origin).with_name("version.py")
    return f"{found} {found.stat().st_mtime_ns if found.exists() else 0}"


def _compile(sources: list[str] | tuple[str, ...], cast: int) -> Compiled:
    os.environ["BCC_KERNEL_SOURCE"] = str(HEADERS)
    try:
        import bcc
    except ImportError as exc:
        raise LoaderError(
            "the Python module of bcc is missing: install python3-bpfcc (Debian, Ubuntu) or "
            "python3-bcc (Fedora, RHEL), and run droptape-record with the system's Python or "
            "a virtual environment made from it with --system-site-packages"
        ) from exc
    except OSError as exc:
        raise LoaderError(f"bcc does not run, install it again: {exc}") from exc
    with ExitStack() as stack:
        # Forked, they need not import bcc too.
        others = [stack.enter_context(_Other(bcc, text, cast)) for text in sources[1:]]
        first = _compile_one(bcc, sources[0], cast)
        return joined([first, *(other.result() for other in others)])


def _compile_one(bcc: Any, source: str, cast: int) -> Compiled:
    # bcc would attach every function whose name starts with kretfunc__ by itself.
    only_compiled = type("BPF", (bcc.BPF,), {"_trace_autoload": lambda self: None})
    with _Printed() as printed:
        try:
            bpf = only_compiled(text=source.encode(), cflags=_CFLAGS)
        except Exception as exc:  # bcc raises nothing more precise
            why = _no_room_for_maps() or f": {printed.complaint() or exc}"
            raise LoaderError(f"bcc cannot compile the programs{why}") from exc
    try:
        return _take(bcc.lib, bpf.module, cast)
    finally:
        bpf.cleanup()


class _Printed:
    """What is printed to standard error meanwhile: bcc says only there what it cannot compile."""

    def __enter__(self) -> _Printed:
        self._place = os.memfd_create("droptape-compiler")
        self._before = os.dup(2)
        os.dup2(self._place, 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._before, 2)
        os.close(self._before)
        os.close(self._place)

    def complaint(self) -> str:
        """Return the first error, "" when there is none."""
        size = os.fstat(self._place).st_size
        lines = os.pread(self._place, size, 0).decode(errors="replace").splitlines()
        errors = (line.partition("error: ")[2] for line in lines if "error: " in line)
        return next(errors, lines[-1].strip() if lines else "")


class _Other:
    """A process that compiles one source while this one compiles another."""

    def __init__(self, bcc: Any, source: str, cast: int) -> None:
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _answer(writer, bcc, source, cast)
        os.close(writer)
        self._reader = os.fdopen(reader, "rb")

    def __enter__(self) -> _Other:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def result(self) -> Compiled:
        """Wait for what it compiled; LoaderError when it could not."""
        data = self._reader.read()
        found = Compiled.from_bytes(data)
        if found is None:
            said = data.decode(errors="replace")
            raise LoaderError(said or "bcc cannot compile the programs: the compiler was killed")
        return found


def _answer(writer: int, bcc: Any, source: str, cast: int) -> NoReturn:
    try:
        with os.fdopen(writer, "wb") as pipe:
            try:
                pipe.write(_compile_one(bcc, source, cast).to_bytes())
            except LoaderError as exc:
                pipe.write(str(exc).encode())
    finally:
        os._exit(0)


def locked(exc: OSError) -> str:
    """Return what to do about the limit of locked memory, "" where a map was not refused for it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if exc.errno != errno.EPERM or limit == resource.RLIM_INFINITY:
        return ""
    return ": raise the limit of locked memory (ulimit -l unlimited, LimitMEMLOCK=infinity)"


def _no_room_for_maps() -> str:
    """Say whether maps are refused: bcc makes them while it compiles, and does not tell why not."""
    try:
        os.close(syscall.map_create("room", _LARGE))
    except OSError as exc:
        return locked(exc)
    return ""


def _take(lib: Any, module: Any, cast: int) -> Compiled:
    """Copy what bcc made of the source."""
    # What its Python module does not declare (bcc's bcc_common.h).
    lib.bpf_num_tables.argtypes, lib.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
    for function, result in (
        (lib.bpf_table_name, ctypes.c_char_p),
        (lib.bpf_table_fd_id, ctypes.c_int),
    ):
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_size_t], result
    tables = [(lib.bpf_table_name(module, i).decode(), lib.bpf_table_fd_id(module, i))
              for i in range(lib.bpf_num_tables(module))]  # fmt: skip
    places = {fd: place for place, (_, fd) in enumerate(tables)}
    programs: dict[str, bytes] = {}
    for i in range(lib.bpf_num_functions(module)):
        name = lib.bpf_function_name(module, i)
        size = lib.bpf_function_size(module, name)
        code = ctypes.string_at(lib.bpf_function_start(module, name), size)
        programs[name.decode()] = _portable(np.frombuffer(code, "u4").copy(), places, cast)
    return Compiled({name: syscall.map_shape(fd) for name, fd in tables}, programs)


def _portable(code: npt.NDArray[np.uint32], places: dict[int, int], cast: int) -> bytes:
    """Replace descriptors of maps by their places, and `CAST_CALL` by the call it stands for."""
    first, second = code[::2], code[1::2]  # of each instruction: opcode and registers; immediate
    at = map_places(code)
    second[at] = [places[descriptor] for descriptor in second[at].tolist()]
    calls = np.flatnonzero((first == _CALL) & (second == CAST_CALL))
    first[calls], second[calls] = syscall.KERNEL_CALL, cast
    return code.tobytes()
