"""Conditions of users on addresses, asked of the stored bytes as well.

A view makes the text of an address for every row, and DuckDB cannot look for text in bytes. So
where a query compares an address with a constant, its table is replaced by the rows whose bytes
fit; the query's own condition stays and decides. That way Parquet's dictionaries and Bloom filters
leave most of a file unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

import duckdb

from droptape.format.types import ADDRESS

from .engine import literal, name
from .events import NAME as EVENTS
from .statements import nodes
from .views import View, named_columns

Params = Sequence[Any] | Mapping[str, Any]

_EXPLAIN = re.compile(r"EXPLAIN (ANALYZE )?")
_OCTETS = re.compile(r"(\d{1,3}\.){1,3}%")
_MAPPED = bytes(10) + b"\xff\xff"


def narrowed(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Params | None,
    views: Mapping[str, View],
) -> str:
    """Return `sql` with its tables narrowed where that cannot change the answer.

    Args:
        connection: only asked to parse.
        sql: what `statements.checked` returned.
        params: the values for it.
        views: what it can name.
    """
    explain = _EXPLAIN.match(sql)
    start = explain.end() if explain else 0
    text = sql[start:].rstrip().rstrip(";")
    columns = {table: _addresses(view) for table, view in views.items()}
    used = {column for found in columns.values() for column in found}
    if not any(column in text.lower() for column in used):
        return sql
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    # Inside an expression a column without a name is called like its text, so that stays.
    found = list(nodes(json.loads(tree), leave_out="SUBQUERY"))
    hidden = {str(node["cte_name"]).lower() for node in found if "cte_name" in node}
    hidden |= {
        str(entry["key"]).lower() for n in found if "cte_map" in n for entry in n["cte_map"]["map"]
    }
    raw, changes = text.encode(), []
    for node in found:
        table = _only_table(node)
        if table is None or table not in columns or table in hidden:
            continue
        origin = node["from_table"]
        asked = _Asked((origin["alias"] or table).lower(), columns[table], params)
        condition = asked.implied(node["where_clause"])
        at, end = origin["query_location"], origin["query_location"] + _length(origin)
        if condition and re.match(rb'(main\.)?"?' + table.encode(), raw[at:end], re.IGNORECASE):
            shown = asked.shown(node["where_clause"])
            alias = name(origin["alias"] or table)
            rows = f"SELECT * REPLACE ({shown}) FROM raw.{name(table)} WHERE {condition}"
            changes.append((at, end, f"({rows}) AS {alias}"))
    for at, end, rows in sorted(changes, reverse=True):
        raw = raw[:at] + rows.encode() + raw[end:]
    return sql[:start] + raw.decode()


def _addresses(view: View) -> frozenset[str]:
    """Return the columns of a view that are bytes in the schema ``raw``."""
    if view.name == EVENTS:
        return frozenset({"saddr", "daddr"})
    declared = named_columns(view.table) if view.table is not None else []
    return frozenset(shown.name for column, shown in declared if column.type is ADDRESS)


def _only_table(node: Mapping[str, Any]) -> str | None:
    """Return the table that a SELECT reads, if it is one and its WHERE is all that picks rows.

    Not where it is joined: an ASOF or POSITIONAL JOIN with fewer rows is another one. A sample is
    taken before the WHERE.
    """
    origin = node.get("from_table")
    if node.get("type") != "SELECT_NODE" or node.get("sample") or not node.get("where_clause"):
        return None
    if not origin or origin.get("type") != "BASE_TABLE":
        return None
    if origin["sample"] or origin["column_name_alias"] or origin["at_clause"]:
        return None
    *schema, table = (str(part).lower() for part in origin["qualified_name"]["path"])
    return table if schema in ([], ["main"]) else None


def _length(origin: Mapping[str, Any]) -> int:
    return int(origin["query_location_length"])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a WHERE asks about the addresses of one table."""

    table: str
    columns: frozenset[str]
    params: Params | None

    def implied(self, where: Mapping[str, Any]) -> str | None:
        """Return a condition on bytes that is true wherever `where` is, or None."""
        kind = where["type"]
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            parts = [self.implied(child) for child in where["children"]]
            found = [part for part in parts if part is not None]
            if not found or (kind == "CONJUNCTION_OR" and len(found) < len(parts)):
                return None
            return "(" + f" {kind.removeprefix('CONJUNCTION_')} ".join(found) + ")"
        if kind == "FUNCTION" and where["function_name"] == "~~":
            column, pattern = (argument["expression"] for argument in where["arguments"])
            stored = self._column(column)
            return _network(stored, _text(pattern, self.params)) if stored else None
        stored, texts = self._equal(where)
        return f"{name(stored)} IN ({', '.join(texts.values())})" if texts else None

    def shown(self, where: Mapping[str, Any]) -> str:
        """Return the columns as texts: without making any where `where` says which there are."""
        parts = where["children"] if where["type"] == "CONJUNCTION_AND" else [where]
        sql = {column: f"addr_text({name(column)})" for column in self.columns}
        for stored, texts in map(self._equal, parts):
            if len(texts) == 1:
                sql[stored] = literal(*texts)
            elif texts:
                whens = " ".join(f"WHEN {b} THEN {literal(t)}" for t, b in texts.items())
                sql[stored] = f"CASE {name(stored)} {whens} END"
        return ", ".join(f"{text} AS {name(column)}" for column, text in sorted(sql.items()))

    def _equal(self, where: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """Return the column that is one of some addresses, and these with their bytes, or none."""
        if where["type"] == "COMPARE_EQUAL":
            column, *values = where["left"], where["right"]
            if column["type"] != "COLUMN_REF":
                column, values = values[0], [column]
        elif where["type"] == "COMPARE_IN":
            column, *values = where["children"]
        else:
            return "", {}
        stored = self._column(column)
        known: dict[str, str] = {}
        for value in values:
            text = _text(value, self.params)
            blob = _blob(text)
            if stored is None or text is None or blob is None:
                return "", {}
            known[text] = blob
        return stored or "", known

    def _column(self, node: Mapping[str, Any]) -> str | None:
        if node["type"] != "COLUMN_REF":
            return None
        *table, column = (str(part).lower() for part in node["column_names"])
        return column if column in self.columns and table in ([], [self.table]) else None


def _text(node: Mapping[str, Any], params: Params | None) -> str | None:
    """Return the text that a constant or a parameter is."""
    value: object = None
    if node["type"] == "VALUE_CONSTANT" and node["literal"]["kind"] == "STRING":
        value = node["literal"]["text"]
    elif node["type"] == "VALUE_PARAMETER" and params is not None:
        named = params if isinstance(params, Mapping) else _numbered(params)
        value = named.get(node["identifier"])
    return value if isinstance(value, str) else None


def _numbered(params: Sequence[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(params, start=1)}


def _blob(text: str | None) -> str | None:
    """Return the stored bytes of an address, None when `addr_text` would not write it so."""
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    mapped = isinstance(address, IPv4Address)
    stored = (_MAPPED if mapped else b"") + address.packed
    if str(address) != text or "%" in text or (not mapped and stored.startswith(_MAPPED)):
        return None
    return literal("".join(f"\\x{byte:02X}" for byte in stored)) + "::BLOB"


def _network(column: str, pattern: str | None) -> str | None:
    """Return the condition for ``LIKE '10.0.%'``, whole octets of IPv4; no other form."""
    if pattern is None or not _OCTETS.fullmatch(pattern):
        return None
    octets = pattern[:-2].split(".")
    first, last = (_blob(".".join([*octets, *[end] * (4 - len(octets))])) for end in ("0", "255"))
    return f"{column} BETWEEN {first} AND {last}" if first and last else None
