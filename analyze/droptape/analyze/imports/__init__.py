"""The output of load generators, as tables beside a recording."""

from __future__ import annotations

from .save import Imported, import_file

__all__ = ["Imported", "import_file"]
