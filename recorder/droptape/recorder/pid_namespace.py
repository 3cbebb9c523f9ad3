"""Whether the process ids that the kernel tells are those of this /proc."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
INITIAL = 0xEFFFFFFC
"""Number of the initial pid namespace (include/linux/proc_ns.h)."""
NOTE = (
    "recorded outside of the initial pid namespace, where process ids mean other processes: of "
    "owners only the id and the name are known"
)


def is_initial(proc: Path = PROC) -> bool:
    """Say whether this process is in the initial pid namespace."""
    try:
        return (proc / "self/ns/pid").stat().st_ino == INITIAL
    except OSError:
        return False
