"""What the benchmarks share: measuring, making load, and the table of results."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# `python benchmarks/NAME.py` finds this package, but not the lab of the tests.
if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))
