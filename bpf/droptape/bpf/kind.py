"""What an event kind declares besides its table: its programs and its ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from droptape.format.decode import Records
from droptape.format.schema import Table


@dataclass(frozen=True, slots=True)
class RawTracepoint:
    """A program on a raw tracepoint.

    Attributes:
        tracepoint: the event's name, such as ``kfree_skb``.
        function: the C function that handles it.
    """

    tracepoint: str
    function: str

    @property
    def mechanism(self) -> str:
        """How the manifest calls it."""
        return f"raw_tracepoint {self.tracepoint}"


@dataclass(frozen=True, slots=True)
class Fexit:
    """A program at the end of a kernel function, through its BTF (BPF trampoline).

    Its arguments are those of the kernel function, then what that returns.

    Attributes:
        target: the kernel function. The C function is called ``kretfunc__<target>``, because bcc
            reads the target from that name.
    """

    target: str

    @property
    def function(self) -> str:
        """The C function."""
        return f"kretfunc__{self.target}"

    @property
    def mechanism(self) -> str:
        """How the manifest calls it."""
        return f"fexit {self.target}"


@dataclass(frozen=True, slots=True)
class Kretprobe:
    """Two programs, at the begin and at the end of a kernel function, through kprobes.

    Attributes:
        target: the kernel function.
        entry: the C function at its begin, which has the arguments.
        function: the C function at its end.
    """

    target: str
    entry: str
    function: str

    @property
    def mechanism(self) -> str:
        """How the manifest calls it."""
        return f"kretprobe {self.target}"


@dataclass(frozen=True, slots=True)
class CgroupSocket:
    """A program that runs when a process makes a socket, in any control group of version 2.

    Attributes:
        function: the C function; it returns 1, because 0 forbids the socket.
    """

    function: str

    @property
    def mechanism(self) -> str:
        """How the manifest calls it."""
        return "cgroup sock_create"


Program = RawTracepoint | Fexit | Kretprobe | CgroupSocket


@dataclass(frozen=True, slots=True)
class Fewer:
    """Holds on kernels whose `tracepoint` has fewer than `arguments` arguments.

    Attributes:
        tracepoint: the event's name.
        arguments: how many newer kernels give.
        note: what cannot be told without them.
    """

    tracepoint: str
    arguments: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """One thing that a kind has to see, and the programs that can show it.

    Attributes:
        name: what the manifest calls it, after the table's name.
        programs: the best first. The first that this kernel takes is attached and no other, so
            nothing is counted twice. The preprocessor may leave out what cannot work or is not
            needed here.
        lacks: what older kernels do not tell; noted in the manifest.
        only_if: where the hook is needed at all; None for everywhere.
        interrupting: a program on the same tracepoint for the events that interrupt the first of
            `programs`, where the kernel does not run that then. It counts in `lost` as `recursion`
            how many it makes up for.
        each_run_an_event: nothing else makes up for a run that the kernel leaves out: it does not
            run a program that it has interrupted on the same processor, and counts that
            (recursion_misses; for raw tracepoints since Linux 6.2, 05b24ff9b2cf).
    """

    name: str
    programs: tuple[Program, ...]
    lacks: tuple[Fewer, ...] = ()
    only_if: Fewer | None = None
    interrupting: RawTracepoint | None = None
    each_run_an_event: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """A program that the recorder runs for every key of a map, with the key as first argument.

    Attributes:
        map: the map; its keys have 8 bytes.
        function: the C function, of a raw tracepoint program that is attached to nothing.
    """

    map: str
    function: str


@dataclass(frozen=True, slots=True)
class EventKind:
    """One event kind.

    Attributes:
        table: its record; the C struct ``<name>_event`` is made from it.
        hooks: what feeds it. The kind is live when at least one is attached.
        ring_bytes: size of its ring buffer, a power of two times the page size. In a storm's first
            second nothing is sampled yet and the reader may wait 0.2 s for a processor: keep
            room for 20,000 events.
        default: whether it is recorded when no kinds are named.
        first: run when the probes are live and the open files were walked.
        last: run before the probes are detached.
        settle: changes a batch before it is stored; rows may go, but none may come.
    """

    table: Table
    hooks: tuple[Hook, ...]
    ring_bytes: int
    default: bool = True
    first: Sweep | None = None
    last: Sweep | None = None
    settle: Callable[[Records], Records] | None = None

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """Both, as far as there are any."""
        return tuple(sweep for sweep in (self.first, self.last) if sweep)

    @property
    def source(self) -> Path:
        """The C file with its programs."""
        return Path(__file__).parent / "kinds" / f"{self.table.name}.c"
