"""docs/FORMAT.md is what the declarations say."""

from __future__ import annotations

from pathlib import Path

from droptape.bpf.document import document
from droptape.bpf.kinds import all_kinds
from droptape.format.tables import TABLES

FORMAT = Path(__file__).parents[3] / "docs" / "FORMAT.md"


def test_it_is_current() -> None:
    assert FORMAT.read_text() == document(), "run make docs"


def test_every_column_is_explained() -> None:
    for table in [*(kind.table for kind in all_kinds().values()), *TABLES.values()]:
        for view in table.view_columns():
            assert view.doc, f"{table.name}.{view.name}"
