"""Every question of docs/COOKBOOK.md has an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from droptape.analyze import Recording, open_recording

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
