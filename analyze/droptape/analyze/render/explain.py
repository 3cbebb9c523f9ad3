"""Showing query plans."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from rich.console import Console


def plan(reader: pa.RecordBatchReader) -> Callable[[Console], None] | None:
    """Return what prints a plan as drawn, when `reader` is the answer to an EXPLAIN; else None."""
    if reader.schema.names != ["explain_key", "explain_value"]:
        return None

    def show(console: Console) -> None:
        for batch in reader:
            for text in batch.column(1).to_pylist():
                console.file.write(f"{text.rstrip()}\n")

    return show
