"""Texts of rules: paragraphs with conditions and placeholders, filled from a row.

A paragraph may begin with ``[column]`` or ``[not column]``: then it counts only when that column
is true, or is not. ``{column}`` stands for a value, ``{column:how}`` for one written in a certain
way (`FORMATS`); ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from droptape.analyze.engine import literal
from droptape.analyze.plain import printable
from droptape.analyze.render.words import size

Use = Literal["prose", "command", "sql"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_]*)(?::([^{}]*))?\}|[{}]")
_CONDITION = re.compile(r"\[(not )?([a-z_][a-z0-9_]*)\]\s+")


class TextError(ValueError):
    """A text of a rule is not well formed."""


class Made(str):
    """Text that is already fit for the place it goes to."""

    __slots__ = ()


def _count(value: Any, noun: str) -> str:
    number = f"{value:,.0f}"
    if not noun:
        return number
    one, _, many = noun.partition("/")
    return f"{number} {one if round(value) == 1 else many or one + 's'}"


FORMATS: dict[str, Callable[[Any, str], str]] = {
    "n": _count,
    "size": lambda value, _: size(round(value)),
    "percent": lambda value, _: f"{value:.1f} %" if value >= 0.1 else "less than 0.1 %",
}
"""``n`` is a number with separators; ``n packet`` and ``n query/queries`` add the noun."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph.

    Attributes:
        text: with placeholders.
        condition: the column that decides whether it counts, or "".
        wanted: what that column has to be.
        commands: the lines indented below it, for a shell.
    """

    text: str
    condition: str = ""
    wanted: bool = True
    commands: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, commands: tuple[str, ...] = ()) -> Paragraph:
        """Read a paragraph; TextError when a placeholder is not well formed."""
        found = _CONDITION.match(text)
        body = text[found.end() :] if found else text
        paragraph = (
            cls(body, found[2], not found[1], commands) if found else cls(body, commands=commands)
        )
        list(paragraph.names())
        return paragraph

    def names(self) -> Iterator[str]:
        """Yield the columns it uses."""
        if self.condition:
            yield self.condition
        for text in (self.text, *self.commands):
            yield from placeholders(text)

    def counts(self, values: Mapping[str, Any]) -> bool:
        """Say whether its condition holds; a null does not."""
        return not self.condition or bool(values[self.condition]) == self.wanted


def placeholders(text: str) -> Iterator[str]:
    """Yield the names in `text`; TextError when it is not well formed."""
    for found in _PLACEHOLDER.finditer(text):
        if found[0] in "{}":
            raise TextError(f"a brace stands alone in {text!r}: write {{{{ or }}}} for one")
        if found[1] is None:
            continue
        if found[2] is not None and found[2].split(" ")[0] not in FORMATS:
            known = ", ".join(FORMATS)
            raise TextError(f"{found[0]} is not written in a known way; there are: {known}")
        yield found[1]


def fill(text: str, values: Mapping[str, Any], use: Use = "prose") -> str:
    """Replace the placeholders in `text`.

    Values come from the recorded host, so they are not trusted: in a command they are one word for
    the shell, in SQL one literal, in prose they hold no control characters.
    """

    def one(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        return _write(values[found[1]], found[2], use)

    return _PLACEHOLDER.sub(one, text)


def _write(value: Any, how: str | None, use: Use) -> str:
    if isinstance(value, Made):
        return value
    if value is None:
        return "NULL" if use == "sql" else "unknown"
    if how is not None:
        name, _, rest = how.partition(" ")
        return FORMATS[name](value, rest)
    if isinstance(value, float | Decimal):
        value = int(value) if value == int(value) else round(float(value), 2)
    if use == "sql":
        return literal(value) if isinstance(value, str) else str(value)
    text = printable(str(value))
    return shlex.quote(text) if use == "command" else text


def paragraphs(lines: list[str]) -> list[Paragraph]:
    """Read the paragraphs of a section: list items, or blocks between blank lines.

    Lines indented by six blanks or more are commands of the paragraph before.
    """
    blocks: list[tuple[list[str], list[str]]] = []
    fresh = True
    for line in lines:
        if line.startswith("      ") and blocks:
            blocks[-1][1].append(line[6:])
            fresh = True
        elif not line.strip():
            fresh = True
        elif fresh or line.startswith("- "):
            blocks.append(([line.removeprefix("- ").strip()], []))
            fresh = False
        else:
            blocks[-1][0].append(line.strip())
    return [Paragraph.parse(" ".join(text), tuple(commands)) for text, commands in blocks]
