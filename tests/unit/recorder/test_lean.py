"""The recorder stays small: what it does not need is not imported."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from droptape.recorder import lean
lean.import_pyarrow()
import numpy as np
import pyarrow as pa
import droptape.recorder.session
pa.table({"a": np.arange(3), "b": pa.array(["x"] * 3)})
pa.array(np.arange(3), mask=np.array([True, False, True]))
names = "pandas", "duckdb", "bcc", "pyarrow.compute", "pyarrow._s3fs"
print([name for name in names if name in sys.modules])
import importlib.util
importlib.util.find_spec("pandas")
"""


def test_neither_pandas_nor_duckdb_nor_bcc_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
