"""Naming kernel code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import duckdb

from droptape.format.tables import TABLES

from .engine import literal
from .shape import empty
from .sqlfiles import load

if TYPE_CHECKING:
    from .recording import Recording

_SIGN = 1 << 63
_NO_TOTALS = "SELECT '' AS recording, '' AS location, 0 AS events WHERE false"


def symbolize(rec: Recording, addresses: Iterable[int]) -> duckdb.DuckDBPyRelation:
    """See `Recording.symbolize`."""
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
    totals = "totals" if "totals" in rec.views else f"({_NO_TOTALS})"
    return rec.connection.sql(load("symbolize", named=" UNION ALL ".join(parts), totals=totals))
