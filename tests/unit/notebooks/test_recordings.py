"""The recordings of the notebooks: small, whole, and nothing in them of the machine they were
made on."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.analyze import open_recording
from droptape.format.manifest import Manifest

RECORDINGS = Path(__file__).parents[3] / "notebooks" / "recordings"
PRIVATE = r"^/(work|root|home|tmp|opt)|process_api"
NAMES = ("after", "before", "incident")


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(getattr(kind, "value_type", kind)))


def test_they_are_small() -> None:
    assert sorted(path.name for path in RECORDINGS.iterdir()) == sorted(NAMES)
    files = [path for path in RECORDINGS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_they_are_whole_and_balanced(name: str) -> None:
    with open_recording(RECORDINGS / name) as rec:
        assert not rec.problems
        assert rec.verify().balanced
        info = rec.info().recordings[0]
        assert info.state == "complete"
        assert not info.losses
        assert any("_keep.py" in note for note in info.notes)


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_named_although_most_symbols_are_left_out(name: str) -> None:
    with open_recording(RECORDINGS / name) as rec:
        assert rec.sql("FROM drops WHERE function IS NULL").fetchall() == []
        (symbols,) = rec.sql("SELECT count(*) FROM symbols").fetchall()[0]
    assert symbols < 1000


@pytest.mark.parametrize("name", NAMES)
def test_nothing_tells_of_the_machine(name: str) -> None:
    host = Manifest.read(RECORDINGS / name).host
    assert (host.name, host.boot_id, host.machine_id) == ("web-1", "", "")
    assert host.kernel.replace(".", "").isdigit()
    with open_recording(RECORDINGS / name) as rec:
        namespaces = rec.sql("SELECT name FROM netns").fetchall()
        assert all(str(row[0]).startswith("shop-") for row in namespaces)
    for file in (RECORDINGS / name).rglob("*.parquet"):
        for column in pq.read_table(file).columns:
            values = column.unique().cast("string") if is_text(column.type) else []
            found = [str(v) for v in values if re.search(PRIVATE, str(v))]
            assert not found, f"{file.parent.name}: {found}"


def test_the_incident_has_what_the_notebooks_and_the_cookbook_ask_for() -> None:
    with open_recording(RECORDINGS / "incident") as rec:
        assert {mark.text for mark in rec.marked()} == {
            "firewall rule deployed",
            "firewall rule removed",
        }
        reasons = {row[0] for row in rec.sql("SELECT DISTINCT reason FROM drops").fetchall()}
        assert reasons >= {"NO_SOCKET", "SOCKET_RCVBUFF", "NETFILTER_DROP", "TCP_LISTEN_OVERFLOW"}
        containers = {row[0] for row in rec.sql("SELECT container FROM cgroups").fetchall()}
        assert containers >= {"auction.service", "backup.service", "telemetry.service"}
