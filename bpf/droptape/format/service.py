"""The port of the service that a packet belonged to: one rule, for rows in SQL and in NumPy.

A SYN goes to the service and a SYN-ACK comes from it. For the rest: clients take their ports from
the upper range, so the lower one is the service's. When both are from there, what was dropped on
its way to a listener or, as a datagram, on its way in was for the service.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .decode import FLAG_TEXT
from .schema import Table

_CLIENTS = 32768
"""Where the ports of clients begin (net.ipv4.ip_local_port_range, by default)."""
_TO_SERVICE = ("SYN", "SYN|ECE|CWR")
_FROM_SERVICE = ("SYN|ACK", "SYN|ACK|ECE")
_DATAGRAM, _LISTENING, _INCOMING = "UDP", "LISTEN", "input"
_WAY = frozenset({"path", "protocol", "state"})

Columns = Mapping[str, npt.NDArray[Any]]


def port_sql(columns: Collection[str]) -> str:
    """Return the SQL of the service's port, null where there is none.

    Args:
        columns: those that the rows have.
    """
    if "lport" in columns:
        return "nullif(lport, 0)"
    if not {"sport", "dport"} <= set(columns):
        return "NULL::INTEGER"
    # In the form that DuckDB is quickest at: `summary` asks it of every row.
    lower = "CASE WHEN sport < dport THEN sport ELSE dport END"
    if "tcp_flags" not in columns:
        return f"nullif({lower}, 0)"
    incoming = ""
    if set(columns) >= _WAY:
        incoming = (
            f"WHEN sport >= {_CLIENTS} AND dport >= {_CLIENTS} "
            f"AND (protocol = '{_DATAGRAM}' OR state = '{_LISTENING}') "
            f"AND (path = '{_INCOMING}' OR path IS NULL) THEN dport "
        )
    return (
        f"nullif(CASE WHEN {_one_of(_TO_SERVICE)} THEN dport WHEN {_one_of(_FROM_SERVICE)} "
        f"THEN sport {incoming}ELSE {lower} END, 0)"
    )


def _one_of(flags: tuple[str, ...]) -> str:
    return " OR ".join(f"tcp_flags = '{text}'" for text in flags)


def port(table: Table, records: Columns) -> npt.NDArray[np.uint16]:
    """Return the service's port of records, 0 where there is none.

    Args:
        table: their declaration.
        records: its columns by name, as the kernel wrote them: each of shape (rows,), or of shape
            (1,) where all rows have the same value.

    Returns:
        Shape (rows,), or (1,) where no column that counts has more.
    """
    names = {column.name for column in table}
    if "lport" in names:
        return _u16(records["lport"])
    if not {"sport", "dport"} <= names:
        return np.zeros(1, np.uint16)
    source, target = _u16(records["sport"]), _u16(records["dport"])
    found: npt.NDArray[np.uint16] = np.minimum(source, target)
    if "tcp_flags" not in names:
        return found
    if names >= _WAY:
        high = (source >= _CLIENTS) & (target >= _CLIENTS)
        if high.any():
            meant = _is(table, records, "protocol", _DATAGRAM)
            meant = meant | _is(table, records, "state", _LISTENING)
            unknown = records["path"] == table["path"].null_if
            meant = meant & (_is(table, records, "path", _INCOMING) | unknown)
            found = np.where(high & meant, target, found)
    flags = records["tcp_flags"]
    for texts, chosen in (_FROM_SERVICE, source), (_TO_SERVICE, target):
        numbers = [FLAG_TEXT.index(text) for text in texts]
        there = (flags == numbers[0]) | (flags == numbers[1])
        if there.any():
            found = np.where(there, chosen, found)
    return found


def _u16(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return values.astype(np.uint16, copy=False)


def _is(table: Table, records: Columns, column: str, name: str) -> npt.NDArray[np.bool_]:
    """Say which records have the number of `name`; none where the declaration has no such name."""
    enum = table[column].enum
    numbers = [n for n, text in enum.values.items() if text == name] if enum is not None else []
    found: npt.NDArray[np.bool_] = np.zeros(1, bool)
    for number in numbers:
        found = found | (records[column] == number)
    return found
