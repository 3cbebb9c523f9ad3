"""Settings of libraries that must be made before they are imported, to stay small.

OpenBLAS makes a thread for each processor when NumPy is imported: the recorder multiplies no
matrices, and a thread that exists already would keep the privileges that `privilege.drop` gives up.
Arrow's own allocators keep what they once had, and one of them has a thread.
"""

from __future__ import annotations

import importlib
import os

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


_CLOUDS = tuple(f"pyarrow._{name}" for name in ("azurefs", "gcsfs", "hdfs", "s3fs"))


def import_pyarrow() -> None:
    """Import what the recorder needs of pyarrow, without pandas and without clouds."""
    from droptape.format import hidden

    hidden.import_pyarrow(_CLOUDS)
    with hidden.hidden(_CLOUDS):
        importlib.import_module("pyarrow.parquet")
