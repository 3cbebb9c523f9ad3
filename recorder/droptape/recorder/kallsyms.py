"""Functions of the running kernel by address."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from droptape.format.errors import DroptapeError
from droptape.format.tables import SYMBOLS

KALLSYMS = Path("/proc/kallsyms")
MODULES = Path("/proc/modules")

# "ffffffff81000000 T name\t[module]"; text symbols only. Modules may be bpf programs too.
_TEXT_LINE = re.compile(rb"^([0-9a-f]{8,16}) [tTwW] ([^\t\n]+)(?:\t\[([^\]\n]+)\])?$", re.MULTILINE)
_CHUNK = 1 << 18


class SymbolsError(DroptapeError):
    """The kernel hides or lacks its symbols."""


class Symbols:
    """All functions, sorted by address.

    Names are kept as one block of bytes: a quarter of a million Python strings would take 20 MB.

    Attributes:
        addresses: shape (n,), ascending.
        note: why there are no symbols, or "".
    """

    def __init__(self, note: str = "") -> None:
        """Use `load` or `parse`; this makes one without symbols."""
        self.note = note
        self.addresses: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        # In the order of the file: names one after the other, where each ends, and the module of
        # each as an index into _module_names, 0 for the kernel itself. _place leads from the order
        # of addresses to that of the file.
        self._names = bytearray()
        self._ends: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._modules: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._module_names = [""]
        self._place: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    @classmethod
    def load(cls, path: Path = KALLSYMS) -> Symbols:
        """Read `path`; without symbols, `note` says why and nothing is found in it."""
        try:
            return cls.parse(path)
        except (OSError, SymbolsError) as exc:
            return cls(str(exc))

    @classmethod
    def parse(cls, path: Path = KALLSYMS) -> Symbols:
        """Read `path`.

        Raises:
            OSError: it cannot be read.
            SymbolsError: it has no functions, or their addresses are hidden, which they are
                without CAP_SYSLOG or with kernel.kptr_restrict=2.
        """
        self = cls()
        addresses: list[npt.NDArray[np.uint64]] = []
        lengths: list[npt.NDArray[np.int32]] = []
        modules: list[npt.NDArray[np.int32]] = []
        numbers = {b"": 0}
        for lines in _parts(path):
            found = _TEXT_LINE.findall(lines)
            addresses.append(np.array([int(a, 16) for a, _, _ in found], np.uint64))
            lengths.append(np.array([len(n) for _, n, _ in found], np.int32))
            modules.append(
                np.array([numbers.setdefault(m, len(numbers)) for _, _, m in found], np.int32)
            )
            self._names += b"".join(n for _, n, _ in found)
        in_file = np.concatenate([self.addresses, *addresses])
        if not len(in_file):
            raise SymbolsError(f"{path} has no functions: the kernel lacks CONFIG_KALLSYMS")
        if not in_file.any():
            raise SymbolsError(
                f"{path} hides addresses: it takes CAP_SYSLOG and kernel.kptr_restrict below 2"
            )
        self._place = np.argsort(in_file, kind="stable")
        self.addresses = in_file[self._place]
        self._ends = np.cumsum(np.concatenate(lengths), dtype=np.int32)
        self._modules = np.concatenate(modules)
        self._module_names = [name.decode("ascii", "backslashreplace") for name in numbers]
        return self

    def __len__(self) -> int:
        return len(self.addresses)

    def lookup(self, address: int) -> tuple[str, int, str] | None:
        """Return (function, offset in bytes, module or "") of `address`; None when unknown."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        # Of several names for one address the first, as the kernel's own %pS prints.
        first = int(np.searchsorted(self.addresses, self.addresses[at]))
        place = int(self._place[first])
        start = int(self._ends[place - 1]) if place else 0
        name = self._names[start : int(self._ends[place])].decode("ascii", "backslashreplace")
        module = self._module_names[int(self._modules[place])]
        return name, address - int(self.addresses[first]), module

    def text(self, address: int) -> str:
        """Return ``function+0x1c [module]``, or the address where no function is known."""
        found = self.lookup(address)
        if found is None:
            return f"0x{address:x}"
        name, offset, module = found
        return f"{name}+0x{offset:x}" + (f" [{module}]" if module else "")

    def table(self, *, only_modules: bool = False) -> pa.Table:
        """Return the symbols dictionary, or the part of it that lies in modules."""
        offsets = np.zeros(len(self) + 1, np.int32)
        offsets[1:] = self._ends
        names = pa.StringArray.from_buffers(
            len(self), pa.py_buffer(offsets), pa.py_buffer(bytes(self._names))
        )
        module_names = pa.array([name or None for name in self._module_names], pa.string())
        place, addresses = self._place, self.addresses.view(np.int64)
        if only_modules:
            inside = self._modules[place] != 0
            place, addresses = place[inside], addresses[inside]
        return pa.Table.from_arrays(
            [
                pa.array(addresses),
                names.take(pa.array(place)),
                module_names.take(pa.array(self._modules[place])),
            ],
            schema=SYMBOLS.arrow_schema,
        )


def loaded_modules(path: Path = MODULES) -> str:
    """Return what changes when a module is loaded or unloaded; "" on a kernel without modules."""
    try:
        lines = path.read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return ""
    # Name and address; what lies between are counts of users, which change all the time.
    return "\n".join(f"{line.split()[0]} {line.split()[5]}" for line in lines if line)


def _parts(path: Path) -> Iterator[bytes]:
    """Yield a file of some 15 MB in parts of whole lines."""
    with path.open("rb", buffering=0) as file:
        rest = b""
        while chunk := file.read(_CHUNK):
            end = chunk.rfind(b"\n") + 1
            yield rest + chunk[:end]
            rest = chunk[end:]
        yield rest
