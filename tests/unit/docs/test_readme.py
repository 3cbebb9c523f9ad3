"""What README.md shows in Python works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^```python\n(from droptape\.analyze .*?)^```$", re.DOTALL | re.MULTILINE)
_WAYS = re.compile(r"by_second\.(\w+)\(\)  # or \.(\w+)\(\), \.(\w+)\(\)")


def test_frames_come_from_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _BLOCK.search((ROOT / "README.md").read_text())
    assert found
    ways = _WAYS.search(found[1])
    assert ways
    # All ways one after the other: DuckDB asks nothing more while a result is open.
    for way in ways.groups():
        last = next(line for line in found[1].splitlines() if "frame =" in line)
        block = found[1].replace(last, f"    frame = by_second.{way}()\n    again = rec.info()")
        monkeypatch.chdir(ROOT / "notebooks" / "recordings")
        shown: dict[str, object] = {}
        exec(block, shown)
        assert len(shown["frame"]) == 9  # type: ignore[arg-type]
