"""Small pieces of HTML. Whatever comes from a recording goes through `text`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from droptape.analyze.plain import printable

LONGEST = 200
"""Characters of one value."""


class Html(str):
    """Markup that is safe to put in a page."""

    __slots__ = ()


def text(value: Any) -> Html:
    """Return a value as escaped text: no markup, no control characters, not too long."""
    if isinstance(value, Html):
        return value
    if value is None or value == "":
        return Html("-")
    if isinstance(value, bool):
        return Html("yes" if value else "no")
    if isinstance(value, int):
        return Html(f"{value:,}")
    shown = str(value)
    if len(shown) > LONGEST:
        shown = shown[: LONGEST - 1] + "…"
    return Html(html.escape(printable(shown)))


def long_text(value: str) -> Html:
    """Return text of several lines, escaped."""
    return Html("\n".join(html.escape(printable(line)) for line in value.splitlines()))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Join markup."""
    return Html(between.join(parts))


def script_json(value: Any) -> Html:
    """Return JSON that can stand in a script element."""
    raw = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Html(raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def code(content: str, name: str) -> Html:
    """Return text as it is, with a button that copies it."""
    return Html(
        f'<div class="code"><pre id="{text(name)}" tabindex="0">{long_text(content)}</pre>'
        f'<button type="button" data-copy="{text(name)}">Copy</button></div>'
    )


def query(sql: str, name: str) -> Html:
    """Return a folded query with a button that copies it."""
    return Html(
        '<details class="query"><summary>The query behind this</summary>'
        f"{code(sql, f'query-{name}')}</details>"
    )


def table(
    name: str,
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numeric: Iterable[int] = (),
) -> Html:
    """Return a table that can be sorted by its heads.

    Args:
        name: id of the element.
        caption: what it shows.
        heads: of the columns.
        rows: values; a pair (shown, to sort by) where these differ.
        numeric: columns that are set to the right and sorted as numbers.
    """
    right = set(numeric)
    head = join(
        f'<th scope="col"{_right(i, right)}><button type="button" class="sort">{text(h)}'
        '<span aria-hidden="true"></span></button></th>'
        for i, h in enumerate(heads)
    )
    body = join(f"<tr>{join(_cell(i, v, right) for i, v in enumerate(row))}</tr>" for row in rows)
    return Html(
        f'<div class="scroll" role="region" aria-label="{text(caption)}" tabindex="0">'
        f'<table id="{text(name)}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _right(index: int, right: set[int]) -> str:
    return ' class="number"' if index in right else ""


def _cell(index: int, value: Any, right: set[int]) -> str:
    shown, key = value if isinstance(value, tuple) else (value, None)
    if key is None and index in right and isinstance(shown, int | float):
        key = shown
    by = f' data-sort="{text(str(key))}"' if key is not None else ""
    return f"<td{_right(index, right)}{by}>{text(shown)}</td>"
