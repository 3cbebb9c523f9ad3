from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import Recording, open_recording
from unit.analyze.incident import make_incident


@pytest.fixture(scope="session")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the recording that most tests ask; never changed."""
    return make_incident(tmp_path_factory.mktemp("recordings") / "web-1")


@pytest.fixture(scope="session")
def rec(incident: Path) -> Iterator[Recording]:
    with open_recording(incident) as recording:
        yield recording
