"""Makes recordings for the tests: sealed files, journals, a manifest; no recorder needed."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from droptape.bpf.kinds import all_kinds
from droptape.format.decode import decode, rows_to_arrow
from droptape.format.journal import JournalWriter
from droptape.format.layout import stem
from droptape.format.manifest import Clock, Host, Manifest, Probe, Segment, sha256
from droptape.format.schema import Table
from droptape.format.tables import TABLES

START = 1_700_000_000_000_000_000
"""2023-11-14 22:13:20 UTC, in ns."""
MONO = 5_000_000_000_000
SECOND = 1_000_000_000
OFFSET = START - MONO

# Two kernels: other numbers for the same reasons, other addresses for the same functions.
OLD_REASONS = {2: "NOT_SPECIFIED", 3: "NO_SOCKET", 8: "NETFILTER_DROP", 77: "TCP_LISTEN_OVERFLOW"}
NEW_REASONS = {2: "NOT_SPECIFIED", 3: "NO_SOCKET", 12: "NETFILTER_DROP", 90: "TCP_LISTEN_OVERFLOW"}
RESETS = {1: "NOT_SPECIFIED", 5: "NO_SOCKET"}

OLD_BASE = 0xFFFF_FFFF_8100_0000
NEW_BASE = 0xFFFF_FFFF_A320_0000
SYMBOLS = (
    (0x0, "_stext", None),
    (0x1000, "tcp_v4_rcv", None),
    (0x3000, "nft_do_chain", "nf_tables"),
    (0x5000, "do_xdp_generic", None),
    (0x7000, "ip_error", None),
    (0x8000, "neigh_invalidate", None),
    (0x9000, "cookie_v4_check", None),
)


def address(text: str) -> bytes:
    """Return an address as a recording stores it."""
    parsed = ipaddress.ip_address(text)
    mapped = b"\0" * 10 + b"\xff\xff" if parsed.version == 4 else b""
    return mapped + parsed.packed


def unsigned(value: int) -> int:
    """Return the 64 bits of a signed number as an unsigned one."""
    return value & (1 << 64) - 1


def signed(value: int) -> int:
    """Return 64 bits as the signed number that files hold."""
    return value - (1 << 64) if value >> 63 else value


@dataclass
class Maker:
    """One recording being made.

    Attributes:
        path: its folder.
        base: where its kernel lies.
        reasons: numbers of its kernel's drop reasons.
    """

    path: Path
    base: int = OLD_BASE
    reasons: Mapping[int, str] = field(default_factory=lambda: OLD_REASONS)
    kernel: str = "6.18.1"
    host: str = "web-1"
    tables: dict[str, Table] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    writers: list[JournalWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True)
        enums = {"skb_drop_reason": self.reasons, "sk_rst_reason": RESETS}
        recorded = {name: kind for name, kind in all_kinds().items() if kind.default}
        kinds = {name: kind.table.with_enums(enums) for name, kind in recorded.items()}
        self.tables = {**kinds, **TABLES}

    def records(self, table: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
        """Build kernel records; `at` is seconds from the start, enums and addresses are text."""
        declared = self.tables[table]
        records = np.zeros(len(rows), declared.dtype)
        for record, row in zip(records, rows, strict=True):
            row = {"ip_version": 4, "protocol": "TCP", "weight": 1, "uid": 0xFFFFFFFF, **row}
            for column in declared:
                value = row.get(column.name)
                if column.name == "mono_ns":
                    value = MONO + round(row["at"] * SECOND)
                elif value is None and column.null_if is not None:
                    value = column.null_if
                elif column.enum is not None and isinstance(value, str):
                    value = next(k for k, v in column.enum.values.items() if v == value)
                elif column.type.name == "address" and value is not None:
                    value = np.void(address(value))
                elif column.type.name.startswith("text") and value is not None:
                    value = value.encode()
                elif column.name == "location" and value is not None:
                    value = self.base + value
                if value is not None:
                    record[column.name] = value
        return records

    def seal(self, table: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write a sealed segment of an event or series table."""
        return self.write(table, decode(self.tables[table], self.records(table, rows), OFFSET))

    def dictionary(self, table: str, rows: list[Mapping[str, Any]]) -> Path:
        """Write a sealed segment of a dictionary."""
        return self.write(table, rows_to_arrow(self.tables[table], rows))

    def write(
        self,
        table: str,
        data: pa.Table,
        declared: Table | None = None,
        footer: Mapping[str, str] | None = None,
    ) -> Path:
        """Write `data` as the next sealed segment, with more in its `footer`."""
        text = json.dumps((declared or self.tables[table]).to_json())
        path = self._next(table, "parquet")
        meta = {"droptape.table": text, **(footer or {})}
        pq.write_table(data.replace_schema_metadata(meta), path)
        name = f"{table}/{path.name}"
        times = data["ts_ns"].to_pylist() if "ts_ns" in data.column_names else []
        span = min(times, default=None), max(times, default=None)
        self.segments.append(
            Segment(table, name, data.num_rows, *span, path.stat().st_size, sha256(path))
        )
        return path

    def journal(self, table: str, *batches: Sequence[Mapping[str, Any]]) -> Path:
        """Write a journal with one frame for each batch."""
        path = self._next(table, "journal")
        writer = JournalWriter(path, self.tables[table])
        for batch in batches:
            writer.append(self.records(table, batch), OFFSET)
        writer.close()
        return path

    def _next(self, table: str, ending: str) -> Path:
        folder = self.path / table
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir())) + 1
        return folder / f"{stem(number, START)}.{ending}"

    def symbols(self) -> None:
        """Write the kernel's symbols."""
        rows: list[Mapping[str, Any]] = [
            {"address": signed(self.base + at), "name": name, "module": module}
            for at, name, module in SYMBOLS
        ]
        self.dictionary("symbols", rows)

    def finish(self, **changes: Any) -> Path:
        """Write the manifest; `changes` to its fields."""
        values: dict[str, Any] = {
            "recording_id": "0000",
            "host": Host(self.host, "boot", self.kernel, "x86_64", 4),
            "started_ns": START,
            "ended_ns": START + 60 * SECOND,
            "ended_by": "duration",
            "state": "complete",
            "tables": self.tables,
            "segments": self.segments,
            "clocks": [Clock(MONO, START)],
            "probes": [Probe("drops/kfree_skb", "drops", "raw_tracepoint kfree_skb", True)],
            **changes,
        }
        Manifest(**values).write(self.path)
        return self.path
