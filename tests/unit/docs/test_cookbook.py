"""Every question of docs/COOKBOOK.md has an answer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from droptape.analyze import Recording, open_recording
from droptape.format.manifest import Manifest, sha256

ROOT = Path(__file__).parents[3]
RECORDINGS = ROOT / "notebooks" / "recordings"
TEXT = (ROOT / "docs" / "COOKBOOK.md").read_text()
_QUESTION = re.compile(r"^### (.+?)\n(.*?)^```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUESTIONS = {match[1]: (match[2].strip(), match[3]) for match in _QUESTION.finditer(TEXT)}
# Rows that the first columns of an answer must begin with, where the recordings tell.
FIRST = {
    "Which ports refuse connections, whose are they, and how long is their queue?": (
        8080, "auction-server", "auction.service", 8,
    ),
    "Which containers are hit most?": ("auction.service", "listen"),
    "Which UDP sockets overflow, and what is their limit?": ("telemetry",),
    "What do firewall rules drop?": ("nft_do_chain", "input", "TCP"),
    "Which connections have no window scaling?": ("10.20.2.1", "10.20.1.2"),
    "Who knocks at ports where nobody listens?": ("10.20.3.1", 1),
}  # fmt: skip
EMPTY = {"Was anything lost?"}


@pytest.fixture(scope="module")
def incident() -> Iterator[Recording]:
    with open_recording(RECORDINGS / "incident") as rec:
        yield rec


@pytest.fixture(scope="module")
def two() -> Iterator[Recording]:
    with open_recording(RECORDINGS / "before", RECORDINGS / "after") as rec:
        yield rec


def test_there_are_at_least_twenty() -> None:
    assert len(QUESTIONS) == TEXT.count("\n### ") == TEXT.count("```sql") >= 20
    assert FIRST.keys() | EMPTY <= QUESTIONS.keys()


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_is_answered(question: str, incident: Recording, two: Recording) -> None:
    said, sql = QUESTIONS[question]
    assert said.endswith((".", ".)")), "a question needs a sentence"
    assert question.endswith("?")
    rows = (two if "'before'" in sql else incident).sql(sql).fetchall()
    if question in EMPTY:
        assert rows == []
        return
    assert rows
    if question in FIRST:
        assert rows[0][: len(FIRST[question])] == FIRST[question]


def test_rows_and_counts_agree_in_the_answer_that_says_so(incident: Recording) -> None:
    rows = incident.sql(QUESTIONS["Do the rows and the kernel's counts agree?"][1]).fetchall()
    assert len(rows) == 5
    assert all(missing == 0 for *_, missing in rows)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recording, Recording]]:
    """Yield the incident with each event in three rows, and in one that stands for three."""
    folder = tmp_path_factory.mktemp("sampled")
    with (
        open_recording(_three_times(folder / "rows", rows=3, weight=1)) as rows,
        open_recording(_three_times(folder / "weight", rows=1, weight=3)) as weight,
    ):
        yield rows, weight


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_row_counts_for_what_it_stands_for(
    question: str, sampled: tuple[Recording, Recording]
) -> None:
    sql = QUESTIONS[question][1].replace("LIMIT 10", "")
    by_rows, by_weight = (sorted(map(str, rec.sql(sql).fetchall())) for rec in sampled)
    if question == "When was it worst?":  # two causes have as many, and either may be named
        by_rows, by_weight = ([row.rpartition(",")[0] for row in a] for a in (by_rows, by_weight))
    assert by_weight == by_rows


def _three_times(folder: Path, rows: int, weight: int) -> Path:
    shutil.copytree(RECORDINGS / "incident", folder)
    manifest = Manifest.read(folder)
    changed = []
    for segment in manifest.segments:
        path = folder / segment.file
        declared = manifest.tables[segment.table]
        if declared.role == "events" and segment.table != "connections":
            table = pq.ParquetFile(path).read()
            table = table.take(pa.array(np.repeat(np.arange(table.num_rows), rows)))
            at = table.schema.get_field_index("weight")
            more = pc.multiply(table["weight"], weight)
            pq.write_table(table.set_column(at, table.schema.field(at), more), path)
        elif segment.table == "totals":
            table = pq.ParquetFile(path).read()
            for column in ("events", "recorded"):
                at = table.schema.get_field_index(column)
                three = pc.multiply(table[column], 3)
                table = table.set_column(at, table.schema.field(at), three)
            pq.write_table(table, path)
        number, size = pq.read_metadata(path).num_rows, path.stat().st_size
        changed.append(replace(segment, rows=number, bytes=size, sha256=sha256(path)))
    replace(manifest, segments=changed).write(folder)
    return folder
