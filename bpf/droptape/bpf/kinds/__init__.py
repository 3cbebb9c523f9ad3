"""The event kinds, one `.py` (declaration) and one `.c` (program) each; found, not listed."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from droptape.bpf.kind import EventKind


@lru_cache(maxsize=1)
def all_kinds() -> dict[str, EventKind]:
    """Return every event kind of this package by its table's name, in alphabetical order."""
    kinds: dict[str, EventKind] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        kind = importlib.import_module(f"{__name__}.{module}").KIND
        if not isinstance(kind, EventKind):
            raise TypeError(f"{module}.KIND is not an EventKind")
        kinds[kind.table.name] = kind
    return kinds
