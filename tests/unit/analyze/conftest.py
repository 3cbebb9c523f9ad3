from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import Recording, open_recording
from unit.analyze.forger import Members
from unit.analyze.incident import make_incident


@pytest.fixture(scope="session")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the recording that most tests ask; never changed."""
    return make_incident(tmp_path_factory.mktemp("recordings") / "web-1")


@pytest.fixture(scope="session")
def rec(incident: Path) -> Iterator[Recording]:
    with open_recording(incident) as recording:
        yield recording


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as this program makes them."""
    folder = tmp_path_factory.mktemp("stranger")
    with open_recording(make_incident(folder / "web-1")) as rec:
        return rec.bundle(folder / "good.droptape")


@pytest.fixture(scope="session")
def members(good: Path) -> Members:
    """What is in it, by name."""
    with zipfile.ZipFile(good) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def spark_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster on this machine, one for all tests: Spark is started once."""
    pytest.importorskip("pyspark", reason="Spark is not installed: make fleet")
    from pyspark.sql import SparkSession

    from unit.analyze.cluster import spark_cluster

    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patched, spark_cluster(folder) as address:
        patched.setenv("SPARK_CONF_DIR", str(folder / "conf"))
        patched.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        yield address
        session = SparkSession.getActiveSession()
        if session is not None:
            session.stop()
