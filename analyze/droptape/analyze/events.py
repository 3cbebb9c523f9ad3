"""The view `events`: all event tables as one, with the columns that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from droptape.format.service import port_sql
from droptape.format.types import ViewColumn

from .engine import literal, name
from .views import RECORDING, View

NAME = "events"

_OWN = (
    ViewColumn("kind", "", "VARCHAR", "the table that holds the event"),
    ViewColumn("cause", "", "VARCHAR", "why: the reason, kind, event or direction in that table"),
    ViewColumn(
        "amount", "", "BIGINT",
        "what the row adds to the exact total: its weight, for retransmits that are not deferred "
        "times its segments",
    ),
    ViewColumn(
        "port", "", "INTEGER",
        "the service's: the listener's, where a SYN goes, else the lower one",
    ),
)  # fmt: skip

_SHARED = (
    ("ts", "TIMESTAMP_NS"), ("mono_ns", "BIGINT"), ("benign", "BOOLEAN"), ("function", "VARCHAR"),
    ("offset", "BIGINT"), ("module", "VARCHAR"), ("netns", "BIGINT"), ("netns_name", "VARCHAR"),
    ("ip_version", "SMALLINT"), ("protocol", "VARCHAR"), ("saddr", "VARCHAR"), ("sport", "INTEGER"),
    ("daddr", "VARCHAR"), ("dport", "INTEGER"), ("ifname", "VARCHAR"), ("state", "VARCHAR"),
    ("owner_pid", "BIGINT"), ("owner_comm", "VARCHAR"), ("owner_source", "VARCHAR"),
    ("cgroup", "VARCHAR"), ("container", "VARCHAR"), ("uid", "BIGINT"), ("cpu", "INTEGER"),
    ("weight", "BIGINT"),
)  # fmt: skip


_DEFERRED = "kind = 'DEFERRED'"
"""Retransmits that were not sent: the totals have them by number, and as benign."""


def amount(columns: frozenset[str]) -> str:
    """Return the SQL of what one row adds to the totals of its table."""
    if "segments" in columns:
        return f"weight * CASE WHEN {_DEFERRED} THEN 1 ELSE segments END"
    return "weight" if "weight" in columns else "events" if "events" in columns else "1"


def benign(columns: frozenset[str]) -> str:
    """Return the SQL of whether a row is part of normal operation; "false" where none is."""
    if "benign" in columns:
        return "benign"
    return f"coalesce({_DEFERRED}, false)" if "segments" in columns else "false"


def create(
    execute: Callable[[str], object],
    views: Mapping[str, View],
    address: str,
    more: Sequence[ViewColumn] = (),
) -> View:
    """Create the view in ``main`` and ``raw``; return its description.

    Args:
        execute: runs a CREATE VIEW.
        views: the views of the tables.
        address: the SQL type of addresses in ``raw``.
        more: columns that all tables have, besides those of a recording.
    """
    for schema in ("raw", "main"):
        kind = address if schema == "raw" else "VARCHAR"
        parts = [
            _select(schema, view, kind, more)
            for view in views.values()
            if view.table is not None and view.table.role == "events"
        ]
        query = " UNION ALL ".join(parts) or _none(more)
        execute(f"CREATE VIEW {schema}.{NAME} AS {query}")
    docs = {c.name: c.doc for v in views.values() for c in v.columns}
    shared = tuple(ViewColumn(n, "", t, docs.get(n, "")) for n, t in _SHARED)
    first, rest = shared[:2], shared[2:]
    doc = "All events of all kinds, with the columns that they share."
    return View(NAME, doc, (*first, *_OWN, *rest, RECORDING, *more), None)


def _select(schema: str, view: View, address: str, more: Sequence[ViewColumn]) -> str:
    columns = frozenset(c.name for c in view.columns)
    cause = view.table.cause if view.table is not None else ""
    own = (
        f"{literal(view.name)} AS kind",
        f"{name(cause) if cause in columns else 'NULL'}::VARCHAR AS cause",
        f"({amount(columns)})::BIGINT AS amount",
        f"{port_sql(columns)} AS port",
    )
    types = {"saddr": address, "daddr": address}
    shared = [_column(n, types.get(n, t), columns) for n, t in _SHARED]
    last = [name(column.name) for column in (RECORDING, *more)]
    picked = ", ".join((*shared[:2], *own, *shared[2:], *last))
    return f"SELECT {picked} FROM {schema}.{name(view.name)}"


def _column(column: str, sql_type: str, columns: frozenset[str]) -> str:
    if column == "benign":
        return f"{benign(columns)} AS benign"
    if column in columns:
        return name(column)
    return f"NULL::{sql_type} AS {name(column)}"


def _none(more: Sequence[ViewColumn]) -> str:
    own = ", ".join(f"NULL::{c.type} AS {name(c.name)}" for c in (*_OWN, RECORDING, *more))
    shared = ", ".join(f"NULL::{t} AS {name(n)}" for n, t in _SHARED)
    return f"SELECT {shared}, {own} WHERE false"
