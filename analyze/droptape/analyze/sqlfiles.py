"""The SQL of this package, one commented file per question, in the folder `sql`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def _text(name: str) -> str:
    text = (files(__package__ or "droptape.analyze") / "sql" / f"{name}.sql").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def load(name: str, **parts: str) -> str:
    """Return the SQL of file `name` with each ``{part}`` replaced.

    Values of users never come in this way: they are passed as parameters (``$name``). Parts are
    SQL of ours, such as quoted column names.
    """
    text = _text(name)
    for part, sql in parts.items():
        text = text.replace("{" + part + "}", sql)
    return text
