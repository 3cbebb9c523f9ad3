"""`--live`: one line per event, as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv6Address
from typing import Any

from droptape.format.decode import Records, enum_name
from droptape.format.schema import Table
from droptape.format.types import KSYM

from .outlet import Out

LINES_PER_SECOND = 200
Symbolize = Callable[[int], str]


def address_text(raw: bytes) -> str:
    """Return a 16-byte address as text; IPv4 dotted."""
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def printable(name: bytes) -> str:
    """Return a process's name without what a terminal would act on: it may hold any bytes."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def flow_text(row: Any) -> str:
    """Return ``source > destination`` of one record, "" when it has no addresses."""
    if not row["ip_version"]:
        return ""

    def side(address: str, port: str) -> str:
        text = address_text(row[address].tobytes())
        if not row[port]:
            return text
        return f"[{text}]:{row[port]}" if ":" in text else f"{text}:{row[port]}"

    return f"{side('saddr', 'sport')} > {side('daddr', 'dport')}"


def event_line(table: Table, row: Any, wall_offset_ns: int, symbolize: Symbolize) -> str:
    """Describe one record: time (local), kind, cause, kernel function, flow, owner."""
    when = datetime.fromtimestamp((int(row["mono_ns"]) + wall_offset_ns) / 1e9).astimezone()
    column, value = table[table.cause], int(row[table.cause])
    cause = "unknown" if value == column.null_if else enum_name(column, value)
    words = [f"[{when:%H:%M:%S}.{when.microsecond // 1000:03d}]", table.noun, cause]
    words += [symbolize(int(row[c.name])) for c in table if c.type is KSYM and row[c.name]]
    words.append(flow_text(row))
    if row["weight"] > 1:
        words.append(f"x{row['weight']}")
    if row["owner_pid"]:
        name = printable(row["owner_comm"])
        words.append(f"owner {name}[{row['owner_pid']}]")
    else:
        words.append("owner unknown")
    return " ".join(word for word in words if word)


class LivePrinter:
    """Prints events, but not more lines than a terminal, or who reads them, can take.

    What is left out is counted and told, at most once a second and at the end.

    Attributes:
        gone: nobody takes them any more.
    """

    def __init__(self, out: Out, symbolize: Symbolize) -> None:
        self._out = out
        self._symbolize = symbolize
        self._waiting: list[tuple[Table, Records, int]] = []
        self._left = LINES_PER_SECOND
        self._left_out = 0
        self._second = time.monotonic()
        self.gone = False

    def watch(self, table: Table, records: Records, wall_offset_ns: int) -> None:
        """Take what may still be printed of a batch; `flush` prints it."""
        taken = records[: self._left]
        self._left -= len(taken)
        self._left_out += len(records) - len(taken)
        if len(taken):
            self._waiting.append((table, taken, wall_offset_ns))

    def flush(self, *, end: bool = False) -> None:
        """Print what waits in the order of time, and once a second how much was left out."""
        if self.gone:
            return
        try:
            self._flush(end=end)
        except OSError:
            self.gone = True

    def _flush(self, *, end: bool) -> None:
        rows = [(table, row, offset) for table, part, offset in self._waiting for row in part]
        rows.sort(key=lambda item: int(item[1]["mono_ns"]))
        self._waiting.clear()
        lines = [event_line(table, row, offset, self._symbolize) for table, row, offset in rows]
        if lines and not self._out.write("\n".join(lines) + "\n"):
            self._left_out += len(lines)
        now = time.monotonic()
        if end or now - self._second >= 1:
            self._second, self._left = now, LINES_PER_SECOND
            text = f"... {self._left_out:,} more events recorded, not shown\n"
            if self._left_out and self._out.write(text):
                self._left_out = 0
        self._out.flush()
