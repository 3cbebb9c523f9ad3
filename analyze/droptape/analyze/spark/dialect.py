"""From DuckDB's SQL to Spark's.

sqlglot knows most of it. What is added here gives the same values, not only the same syntax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from droptape.analyze.errors import QueryError

_INSTANTS = (exp.DataType.Type.TIMESTAMP_NS, exp.DataType.Type.TIMESTAMPNTZ)


def transpile(
    query: str, params: Mapping[str, Any] | None = None, *, exact: bool = True
) -> tuple[str, set[str]]:
    """Return the query in Spark's dialect, and the names of tables in it.

    Args:
        query: one SELECT in DuckDB's dialect.
        params: values for ``$name``: numbers, texts, None.
        exact: instants are BIGINT, ns since 1970, as in the views of the session for this package.
            Otherwise they are TIMESTAMP, as a user of Spark expects, and hold microseconds.

    Raises:
        QueryError: it cannot be said in Spark's dialect.
    """
    try:
        tree = sqlglot.parse_one(query, read="duckdb")
        for placeholder in list(tree.find_all(exp.Placeholder)):
            placeholder.replace(exp.convert((params or {})[placeholder.name]))
        # From the leaves up, so that what is replaced holds what was replaced in it.
        for node in reversed(list(tree.bfs())):
            changed = _changed(node, exact)
            if changed is not node:
                node.replace(changed)
        spark = sqlglot.Dialect.get_or_raise("spark")
        generator = spark.generator(unsupported_level=sqlglot.ErrorLevel.RAISE)
        # Spark knows WITH inside of WITH. Moved out, two of one name would meet.
        vars(generator)["EXPRESSIONS_WITHOUT_NESTED_CTES"] = set()
        return generator.generate(tree), {table.name for table in tree.find_all(exp.Table)}
    except (SqlglotError, KeyError) as exc:
        text = " ".join(str(exc).split())
        raise QueryError(f"Spark has no such SQL: {text}") from exc


def created(statement: str) -> tuple[str, str]:
    """Return the name and the SELECT of a CREATE VIEW or CREATE TABLE AS, in DuckDB's dialect."""
    tree = sqlglot.parse_one(statement, read="duckdb")
    if not isinstance(tree, exp.Create) or tree.expression is None:
        raise QueryError("only views and tables made by a query are possible")
    table = tree.find(exp.Table)
    assert table is not None
    return view_name(table.db, table.name), tree.expression.sql("duckdb")


def view_name(schema: str, table: str) -> str:
    """Return the name of a view in Spark, where temporary views have no schema."""
    return table if schema in ("", "main") else f"{schema}_{table}"


def _changed(node: Any, exact: bool) -> Any:
    for kind, change in _CHANGES.items():
        if isinstance(node, kind):
            return change(node, exact)
    return node


def _table(node: Any, exact: bool) -> Any:
    del exact
    if not isinstance(node.this, exp.Identifier):
        raise QueryError("Spark is asked about tables of the dataset only")
    if node.db:
        node.set("this", exp.to_identifier(view_name(node.db, node.name), quoted=True))
        node.set("db", None)
    return node


def _named(node: Any, exact: bool) -> Any:
    """Functions that sqlglot does not know."""
    function, arguments = str(node.this).lower(), node.expressions
    if function in ("addr_text", "addr"):
        return exp.Paren(this=arguments[0])  # a dataset has text already
    if function == "make_timestamp_ns":
        if exact:
            return exp.Paren(this=arguments[0])
        micros = exp.IntDiv(this=exp.Paren(this=arguments[0]), expression=exp.Literal.number(1000))
        return exp.Anonymous(this="TIMESTAMP_MICROS", expressions=[micros])
    if function == "epoch_ns":
        return _nanoseconds(arguments[0], exact)
    return node


def _nanoseconds(instant: Any, exact: bool) -> Any:
    if exact:
        return exp.Paren(this=instant)
    micros = exp.Anonymous(this="UNIX_MICROS", expressions=[instant])
    return exp.Paren(this=exp.Mul(this=micros, expression=exp.Literal.number(1000)))


def _type(node: Any, exact: bool) -> Any:
    if node.this == exp.DataType.Type.TIMESTAMP_NS:
        return exp.DataType.build("BIGINT" if exact else "TIMESTAMP")
    if node.this == exp.DataType.Type.TIMESTAMPNTZ and not exact:
        return exp.DataType.build("TIMESTAMP")
    return node


def _arg_extreme(node: Any, exact: bool) -> Any:
    """DuckDB leaves out rows whose value is null, Spark those whose order is."""
    del exact
    value, order = node.this, node.expression
    if isinstance(order, exp.Tuple):
        order = exp.Anonymous(this="STRUCT", expressions=order.expressions)
    known = value.copy().is_(exp.null()).not_()
    node.set("expression", exp.Case().when(known, order))
    return node


def _round(node: Any, exact: bool) -> Any:
    """DuckDB scales, rounds and scales back; Spark rounds the decimal text of the number."""
    del exact
    digits = node.args.get("decimals")
    if digits is None:
        return node
    scale = exp.Literal.number(10 ** int(digits.name))
    scaled = exp.Mul(this=exp.Paren(this=node.this), expression=_double(scale))
    return exp.Paren(this=exp.Div(this=exp.Round(this=scaled), expression=_double(scale.copy())))


def _literal(node: Any, exact: bool) -> Any:
    """A number with a point is a decimal in both, but they divide decimals in different ways."""
    del exact
    if node.is_string or "." not in node.name or isinstance(node.parent, exp.Cast):
        return node
    return _double(node.copy())


def _double(number: Any) -> Any:
    return exp.Cast(this=number, to=exp.DataType.build("DOUBLE"))


def _join(node: Any, exact: bool) -> Any:
    del exact
    if node.method:  # ASOF: Spark would read it as the name of the table before
        raise QueryError(f"Spark has no {node.method} JOIN: join on a bounded range of time")
    return node


_CHANGES: dict[type[Any], Callable[[Any, bool], Any]] = {
    exp.Table: _table,
    exp.Join: _join,
    exp.Anonymous: _named,
    exp.DataType: _type,
    exp.ArgMax: _arg_extreme,
    exp.ArgMin: _arg_extreme,
    exp.Round: _round,
    exp.Literal: _literal,
}
