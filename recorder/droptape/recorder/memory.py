"""Giving memory back to the system."""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ (\S+ \d+)")
_CODE = re.compile(r"^[0-9a-f]+-[0-9a-f]+ r-xp \S+ (\S+ [1-9]\d*)", re.MULTILINE)
_COPIED = "Anonymous:"
_libc = ctypes.CDLL(None)


def give_back() -> None:
    """Return to the system what is not used now.

    The allocator keeps what sealing used: some 100 MB for the rest of a recording that is idle
    after a burst. And most of the code of Python, NumPy and pyarrow that ran once never runs again:
    what does comes back from the page cache, 64 KB at a time.
    """
    if hasattr(_libc, "malloc_trim"):  # malloc_trim(3), glibc only
        _libc.malloc_trim(0)
    try:
        maps = _SMAPS.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    for start, end in code(maps):
        # An error changes nothing.
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def code(smaps: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the code and constants in the text of /proc/PID/smaps.

    Those are the parts of programs and libraries that cannot be written and of which no page was
    ever copied: the loader of programs writes to some before it locks them, and a debugger may
    (proc_pid_smaps(5)). Other files may be unmapped by now, and something else be in their place.
    """
    libraries = set(_CODE.findall(smaps))
    found: tuple[int, int] | None = None
    for line in smaps.split("\n"):
        if head := _HEAD.match(line):
            found = (int(head[1], 16), int(head[2], 16)) if head[3] in libraries else None
        elif "-" in line.split(" ", 1)[0]:
            found = None
        elif found and line.startswith(_COPIED):
            if line.split()[1] == "0":
                yield found
            found = None
