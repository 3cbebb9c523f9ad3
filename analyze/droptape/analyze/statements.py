"""Which SQL of a user may run: one statement that reads, and what DuckDB says made readable.

DuckDB's own statement type is not enough: ``WITH a AS (COPY … TO 'file') SELECT …`` is of type
SELECT, and writes (2.0). So the parsed statement is walked, and only kinds of nodes and table
functions that are known to read pass.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from .errors import QueryError

_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

TABLE_FUNCTIONS = frozenset(
    {
        "unnest", "range", "generate_series", "repeat", "json_each", "json_tree", "histogram",
        "histogram_values", "read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema",
        "parquet_file_metadata", "parquet_kv_metadata", "parquet_bloom_probe", "duckdb_columns",
        "duckdb_tables", "duckdb_views", "duckdb_functions", "duckdb_types", "duckdb_keywords",
        "pragma_table_info", "pragma_version", "summary", "show_tables", "show_tables_expanded",
    }
)  # fmt: skip
"""Table functions that a query may call; all of them only read, and only what is allowed."""

_DENIED_SCALARS = {"write_log", "getenv", "nextval", "sleep_ms"}

ONLY_SELECT = (
    "only SELECT (also WITH, FROM, PIVOT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN) is possible: "
    "a recording is never changed"
)

_EXPLAIN = re.compile(
    r"\s*explain\s+(?P<analyze>analyze\s+)?(?P<rest>\S.*)", re.IGNORECASE | re.DOTALL
)


def checked(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return `sql` in the form to run.

    Args:
        connection: only asked to parse.
        sql: what the user wrote.

    Raises:
        QueryError: it is not exactly one statement, or one that could do more than read.
    """
    statement = _single(connection, sql)
    kind = statement.type.name
    if kind == "EXPLAIN":
        # Built again from a checked statement, because EXPLAIN ANALYZE runs what it explains.
        match = _EXPLAIN.fullmatch(_without_comments(statement.query))
        if match is None:
            raise QueryError("EXPLAIN takes no options here: EXPLAIN SELECT …")
        rest = checked(connection, match["rest"])
        if _EXPLAIN.fullmatch(rest):
            raise QueryError("EXPLAIN of EXPLAIN is not possible")
        return f"EXPLAIN {'ANALYZE ' if match['analyze'] else ''}{rest}"
    if kind == "SELECT":
        _check_tree(_tree(connection, statement.query))
    elif kind == "MULTI":
        _check_pivot(connection, statement.query)
    else:
        raise QueryError(f"{kind.replace('_', ' ')} is not allowed: {ONLY_SELECT}")
    return str(statement.query)


def _single(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as exc:
        raise explained(exc) from exc
    if not statements:
        raise QueryError("the query is empty")
    if len(statements) > 1:
        raise QueryError(f"{len(statements)} statements given, one is possible at a time")
    return statements[0]


def _without_comments(sql: str) -> str:
    """Drop comments before the first word, so that a leading EXPLAIN is found."""
    return re.sub(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", sql, flags=re.DOTALL)


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql.strip().rstrip(";")]).fetchall()
    tree: dict[str, Any] = json.loads(rows[0][0])
    if tree.get("error"):
        raise QueryError(f"this statement cannot be checked, so it is not run: {ONLY_SELECT}")
    return tree


def nodes(value: Any, *, leave_out: str = "") -> Iterator[dict[str, Any]]:
    """Yield the nodes of a parsed statement, but none of the class `leave_out` and below it."""
    if isinstance(value, dict):
        if leave_out and value.get("class") == leave_out:
            return
        yield value
        for inner in value.values():
            yield from nodes(inner, leave_out=leave_out)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner, leave_out=leave_out)


def _check_tree(tree: dict[str, Any]) -> None:
    for node in nodes(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READING_NODES:
            what = kind.removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
            raise QueryError(f"{what} is not allowed, also inside WITH: {ONLY_SELECT}")
        function = node.get("function_name")
        if not isinstance(function, str):
            continue
        if function.lower() in _DENIED_SCALARS:
            raise QueryError(f"the function {function} is not allowed")
    for node in nodes(tree):
        if node.get("type") == "TABLE_FUNCTION":
            function = str(node.get("function", {}).get("function_name", "")).lower()
            if function not in TABLE_FUNCTIONS:
                raise QueryError(
                    f"the table function {function} is not allowed: a query sees the recording only"
                )


def _check_pivot(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let PIVOT through, which DuckDB turns into several statements and does not serialize.

    So its words are looked at: none that writes, no function that is not known to read. To be sure
    what is a word, there may be no comments and no quoting but the plain '…' and "…".
    """
    if re.search(r"--|/\*|\$|[euxb&]'", sql, re.IGNORECASE):
        raise QueryError("a PIVOT takes no comments, no $ and no E'…' strings here")
    plain = re.sub(r"'(?:[^']|'')*'", " ", sql)
    words = set(re.findall(r"\w+", re.sub(r'"(?:[^"]|"")*"', " ", plain).lower()))
    if not words & {"pivot", "pivot_wider"}:
        raise QueryError(f"this statement is not allowed: {ONLY_SELECT}")
    for word in sorted(words & _WRITING_WORDS):
        raise QueryError(f"{word.upper()} is not allowed in a PIVOT: {ONLY_SELECT}")
    known = connection.execute(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
        "WHERE function_type NOT IN ('scalar', 'aggregate', 'macro')"
    ).fetchall()
    denied = ({row[0] for row in known} - TABLE_FUNCTIONS) | _DENIED_SCALARS
    called = {name.lower() for name in re.findall(r'(\w+)"?\s*\(', plain)}
    for function in sorted(called & denied):
        raise QueryError(f"the function {function} is not allowed: a query sees the recording only")


_WRITING_WORDS = {
    "copy", "insert", "update", "delete", "merge", "create", "drop", "alter", "attach", "detach",
    "install", "load", "export", "import", "call", "pragma", "set", "reset", "execute", "prepare",
    "vacuum", "checkpoint", "truncate", "use", "query", "query_table",
}  # fmt: skip


_POSITION = re.compile(r"\n\s*\nLINE \d+:.*|\nLINE \d+:.*", re.DOTALL)
_UNKNOWN_TABLE = re.compile(r"Table with name \"?(?P<name>[^\s\"]+)\"? does not exist")


def explained(exc: Exception, tables: tuple[str, ...] = ()) -> QueryError:
    """Make one line with a hint from DuckDB's error.

    Args:
        exc: the error, DuckDB's own or Arrow's with DuckDB's text in it.
        tables: names of the tables that exist.
    """
    text = _POSITION.sub("", str(exc)).strip()
    missing = _UNKNOWN_TABLE.search(text)
    if missing and tables:
        near = difflib.get_close_matches(missing["name"].lower(), tables, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        return QueryError(
            f"there is no table {missing['name']}{guess}; tables: {', '.join(tables)}"
        )
    if text.startswith("Permission Error"):
        return QueryError(f"a query sees the recording only: {_one_line(text)}")
    if text.startswith("Out of Memory Error"):
        return QueryError(f"the query needs more memory than allowed: {_one_line(text)}")
    if text.startswith("IO Error") and "No such file" in text:
        return QueryError(f"the recording changed while it was read, ask again: {_one_line(text)}")
    return QueryError(_one_line(text))


def _one_line(text: str) -> str:
    # "Binder Error: …" and its like say nothing to a user.
    text = re.sub(r"\A[A-Z][A-Za-z ]+ Error: ", "", text)
    return " ".join(text.split())
