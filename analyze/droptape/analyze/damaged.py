"""Naming the damaged file behind an error of DuckDB, which says only what does not fit.

Of a large recording not all files are checked before they are asked: that would take as long as the
question. After an error it is worth it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from .engine import literal
from .errors import refusal
from .source import Problem, Source, StoredTable
from .verify.files import pages

_NOT_THE_FILES = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfMemoryException,
    duckdb.OutOfRangeException,
    duckdb.InterruptException,
    duckdb.PermissionException,
)


def may_be_damage(exc: Exception) -> bool:
    """Say whether an error can come from a damaged file rather than from the question."""
    return isinstance(exc, duckdb.Error) and not isinstance(exc, _NOT_THE_FILES)


def gone(sources: Sequence[Source]) -> Iterator[tuple[Source, Path]]:
    """Yield the sealed files that are gone since their recordings were opened.

    A recorder that keeps a disk budget removes its oldest files also while they are asked.
    """
    for source in sources:
        for stored in source.tables.values():
            yield from ((source, path) for path in stored.sealed if not path.exists())


def found(sources: Sequence[Source]) -> list[Problem]:
    """Return the sealed files that cannot be read."""
    return [problem for _, problem in _search(sources)]


def leave_out(sources: Sequence[Source]) -> list[Problem]:
    """Take the sealed files that cannot be read out of `sources`; return them."""
    problems: list[Problem] = []
    for stored, problem in list(_search(sources)):
        at = stored.sealed.index(problem.path)
        del stored.sealed[at], stored.schemas[at]
        problems.append(problem)
    return problems


def _search(sources: Sequence[Source]) -> Iterator[tuple[StoredTable, Problem]]:
    for source in sources:
        for stored in source.tables.values():
            for path in list(stored.sealed):
                why = _why(path)
                if why:
                    yield stored, Problem(path, f"not readable, left out ({why})")


def _why(path: Path) -> str:
    try:
        return pages(path) or _refused(path)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        return refusal(exc)


def _refused(path: Path) -> str:
    """Return why DuckDB does not take a file: a damaged footer may say nothing to Arrow."""
    sql = f"SELECT count(COLUMNS(*)) FROM read_parquet({literal(str(path))})"
    try:
        with duckdb.connect() as connection:
            connection.execute(sql)
    except duckdb.Error as exc:
        return (str(exc).splitlines() or [type(exc).__name__])[0]
    return ""
