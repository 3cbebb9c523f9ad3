"""A small laboratory: hosts as network namespaces, and real trouble between them.

Used by the kernel tests, the benchmarks and `make demo`. It needs root,
iproute2, nftables and nsenter, and nothing outside Python's standard library.
"""

from __future__ import annotations

from lab import trouble
from lab.counters import Counters, moved
from lab.net import Host, Lab, Link
from lab.packet import Endpoint, Segment
from lab.process import Child, LabError, Task
from lab.wire import Wire

__all__ = [
    "Child",
    "Counters",
    "Endpoint",
    "Host",
    "Lab",
    "LabError",
    "Link",
    "Segment",
    "Task",
    "Wire",
    "moved",
    "trouble",
]
