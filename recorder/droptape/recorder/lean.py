"""Settings of libraries that must be made before they are imported, to stay small.

OpenBLAS makes a thread for each processor when NumPy is imported: the recorder multiplies no
matrices, and a thread that exists already would keep the privileges that `privilege.drop` gives up.
Arrow's own allocators keep what they once had, and one of them has a thread.
"""

from __future__ import annotations

import os
import sys

_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
os.environ.update(_ours)


def environment() -> dict[str, str]:
    """Return the environment that this process was called with, for other programs."""
    return {name: value for name, value in os.environ.items() if name not in _ours}


_NOT_NEEDED = frozenset(f"pyarrow._{name}" for name in ("azurefs", "gcsfs", "hdfs", "s3fs")) | {
    "pandas"
}


class _NotNeeded:
    """An importer that does not find what pyarrow can do without."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        """Say so when asked for it."""
        if name in _NOT_NEEDED:
            raise ModuleNotFoundError(name, name=name)


def import_pyarrow() -> None:
    """Import pyarrow without pandas, which it imports with the first array, and without clouds.

    Nothing here has a use for them. pandas takes 40 MB and half a second.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NotNeeded)
    try:
        import pyarrow as pa
        import pyarrow.parquet

        pa.array([0])  # asks once, and keeps the answer
    finally:
        sys.meta_path.remove(_NotNeeded)
