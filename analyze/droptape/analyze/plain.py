"""Text in aligned columns, for terminals, pipes and Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

Texts = Sequence[str | None]
# What Markdown takes for markup in a cell; not the underscores, brackets and backslashes that only
# look like it.
_MARKUP = re.compile(
    r"""[`*~<|]|&(?=\#?\w+;)|(?<=\])\(|\\(?=[!-/:-@\[-`{-~])"""
    r"""|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"""
)


def width(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def printable(text: str) -> str:
    """Replace control characters: process names come from the recorded host and are not trusted."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def aligned(
    names: Sequence[str], columns: Sequence[Texts], right: Sequence[bool], markdown: bool
) -> Iterator[str]:
    """Yield the lines of a table: a head, a rule, the rows.

    Args:
        names: of the columns.
        columns: the values of each column; None shows as nothing.
        right: whether each column is set to the right.
        markdown: GitHub's table syntax.
    """
    cells = [[_cell(text, markdown) for text in column] for column in columns]
    heads = [_cell(name, markdown) for name in names]
    widths = [
        max(map(width, (head, *column, *(["---"] if markdown else []))))
        for head, column in zip(heads, cells, strict=True)
    ]

    def line(texts: Sequence[str]) -> str:
        padded = [
            " " * (size - width(text)) + text if to_right else text + " " * (size - width(text))
            for text, size, to_right in zip(texts, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    yield line(heads)
    if markdown:
        rules = [
            "-" * (size - 1) + (":" if r else "-") for size, r in zip(widths, right, strict=True)
        ]
        yield f"| {' | '.join(rules)} |"
    else:
        yield "  ".join("─" * size for size in widths)
    for row in zip(*cells, strict=True):
        yield line(row)


def _cell(text: str | None, markdown: bool) -> str:
    shown = printable(text) if text is not None else ""
    return _MARKUP.sub(r"\\\g<0>", shown) if markdown else shown
