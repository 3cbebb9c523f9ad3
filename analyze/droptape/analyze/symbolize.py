"""Naming kernel code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import duckdb

from droptape.format.tables import TABLES

from .engine import literal
from .errors import QueryError
from .shape import empty
from .sqlfiles import load

if TYPE_CHECKING:
    from .recording import Recording

_SIGN = 1 << 63
_HEXADECIMAL = "'0x' || lower(to_hex(location))"
_NO_TOTALS = "SELECT '' AS recording, '' AS location, 0 AS events WHERE false"


def symbolize(rec: Recording, addresses: Iterable[int]) -> duckdb.DuckDBPyRelation:
    """See `Recording.symbolize`."""
    totals = "totals" if "totals" in rec.views else f"({_NO_TOTALS})"
    located = rec.origin.located()
    if located is not None:
        if list(addresses):
            raise QueryError("a dataset has the functions that occur in it, not every symbol")
        return rec.connection.sql(
            load("symbolize", named=" UNION ALL ".join(located), totals=totals)
        )
    wanted = [(a & (2 * _SIGN - 1)) - (2 * _SIGN if a & _SIGN else 0) for a in addresses]
    parts = []
    for index, source in enumerate(rec.sources):
        schema = f"r{index}"
        if wanted:
            symbols = f"{schema}.symbols"
            if "symbols" not in source.tables:
                symbols = f"({empty(TABLES['symbols'].arrow_schema)})"
            values = ", ".join(f"({address}::BIGINT)" for address in wanted)
            named = load(
                "locations",
                occurring=f"SELECT * FROM (VALUES {values}) AS v(location)",
                symbols=symbols,
            )
        else:
            named = f"SELECT * FROM {schema}.d_locations"  # made when the recording was opened
        parts.append(f"SELECT {literal(source.name)} AS recording, * FROM ({named})")
    named = f"SELECT * REPLACE ({_HEXADECIMAL} AS location) FROM ({' UNION ALL '.join(parts)})"
    return rec.connection.sql(load("symbolize", named=named, totals=totals))
