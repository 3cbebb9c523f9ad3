"""Replacing what says whose recording this is.

What is kept is a list, and what is not on it goes: a column of text that a later version adds is
emptied until it is named here, a table that droptape does not know is left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from droptape.format.layout import IMPORTED, sequence_of
from droptape.format.manifest import Manifest
from droptape.format.schema import Column, Table
from droptape.format.tables import TABLES
from droptape.format.types import ADDRESS, ENUM8, ENUM32, KSYM, STRING, TCP_FLAGS, TEXT16, TEXT64

from .addresses import Addresses
from .names import Names

Change = Callable[[Any], Any]

_KEPT = frozenset(
    {"cause", "kind", "module", "enum", "subsystem", "runtime", "value", "congestion"}
    | {f"{table}.name" for table in ("counters", "symbols", "reasons")}
)
_EMPTIED = frozenset({"seq", "ack"})
_OPTIONS = frozenset(
    {"events", "duration_s", "rotate_bytes", "rotate_s", "live", "include_benign", "btf"}
)
_UIDS = 0x7FFF_0000
_PAGE = 4096
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]*[0-9A-Fa-f:]")


class Redaction:
    """One key's replacements."""

    def __init__(self, key: bytes) -> None:
        self.names = Names(key)
        self.addresses = Addresses(key)

    def known(self, table: Table) -> bool:
        """Say whether a table is one that can be redacted."""
        if table.name.startswith(IMPORTED):
            return False
        return table.role == "events" or table.name in TABLES

    def shift(self, boot_id: str) -> int:
        """Return by how much kernel addresses are moved, so that they do not tell where it lies."""
        return (self.names.number("kernel", _number(boot_id), 1 << 28) + 1) * _PAGE

    def rows(self, table: Table, rows: pa.Table, shift: int) -> pa.Table:
        """Return the rows of `table` with everything replaced."""
        for column in table:
            at = rows.schema.get_field_index(column.name)
            if at < 0:
                continue  # stored under another name: a time
            field = rows.schema.field(at)
            changed = self._column(table, column, rows.column(at), field, shift)
            rows = rows.set_column(at, field, changed)
        return rows

    def _column(
        self,
        table: Table,
        column: Column,
        values: pa.ChunkedArray[Any],
        field: pa.Field[Any],
        shift: int,
    ) -> Any:
        kind = column.type
        if column.name in _EMPTIED:
            return pa.nulls(len(values), field.type)
        if kind is ADDRESS:
            return _mapped(values, self._address)
        if kind is KSYM or (table.name == "symbols" and column.name == "address"):
            return pc.subtract(values, pa.scalar(shift, pa.int64()))
        if column.name == "uid":
            return _mapped(values, self._uid)
        if kind not in (TEXT16, TEXT64, STRING) or kind in (ENUM8, ENUM32, TCP_FLAGS):
            return values
        change = self._text(table.name, column.name)
        return pa.nulls(len(values), field.type) if change is None else _mapped(values, change)

    def _address(self, address: bytes) -> bytes:
        changed = self.addresses(address)
        if changed != address:
            self.names.replaced[_shown(address)] = _shown(changed)
        return changed

    def _uid(self, uid: int) -> int:
        return uid if uid in (0, 65534) else 100_000 + self.names.number("uid", uid, _UIDS)

    def _text(self, table: str, column: str) -> Change | None:
        if column in _KEPT or f"{table}.{column}" in _KEPT:
            return lambda value: value
        by_name: Mapping[str, Change] = {
            "owner_comm": self.names.process,
            "context_comm": self.names.process,
            "comm": self.names.process,
            "ifname": self.names.device,
            "device": self.names.device,
            "container": self.names.container,
            "cgroup": self.names.cgroup,
            "cgroups.path": self.names.cgroup,
            "netns.name": self.names.namespace,
            "sysctls.name": self.names.setting,
            "marks.text": self.names.mark,
            "marks.source": self.names.user,
        }
        return by_name.get(f"{table}.{column}") or by_name.get(column)

    def manifest(self, manifest: Manifest) -> Manifest:
        """Return the manifest without names; call it after `rows`, which learns them."""
        names = self.names
        host = manifest.host
        original = host.name
        redacted = replace(
            host, name=names.host(host.name), boot_id=names.digest("boot", host.boot_id),
            machine_id=names.digest("machine", host.machine_id),
        )  # fmt: skip
        kernel = names.scrub(host.kernel).replace(original, redacted.name) if original else ""
        command = manifest.options.get("command") or ""
        ended = (
            manifest.ended_by.replace(str(command), "the command") if command else manifest.ended_by
        )
        return replace(
            manifest,
            recording_id=names.digest("recording", manifest.recording_id),
            host=replace(redacted, kernel=kernel or host.kernel),
            options={k: v for k, v in manifest.options.items() if k in _OPTIONS},
            ended_by=self.text(ended),
            notes=[self.text(note) for note in manifest.notes],
            damaged=self._damaged(manifest),
            probes=[replace(probe, note=self.text(probe.note)) for probe in manifest.probes],
        )

    def _damaged(self, manifest: Manifest) -> dict[str, str]:
        """Return what is said of files, those that no recorder names as files of nobody."""
        found: dict[str, str] = {}
        for file, text in manifest.damaged.items():
            table, _, name = file.partition("/")
            ours = table in manifest.tables and (not name or sequence_of(name))
            found[file if ours else f"stray-{len(found) + 1}"] = self.text(text)
        return found

    def text(self, text: str) -> str:
        """Return a sentence without the names and addresses in it."""
        return _ADDRESS.sub(self._address_in_text, self.names.scrub(text))

    def _address_in_text(self, match: re.Match[str]) -> str:
        try:
            parsed = ipaddress.ip_address(match[0])
        except ValueError:
            return match[0]
        mapped = b"\0" * 10 + b"\xff\xff" if parsed.version == 4 else b""
        return _shown(self.addresses(mapped + parsed.packed))


def _shown(address: bytes) -> str:
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


def _number(text: str) -> int:
    return int.from_bytes(text.encode()[:64], "big")


def _mapped(values: pa.ChunkedArray[Any], change: Change) -> Any:
    """Change every distinct value once; the array that results holds no other."""
    encoded = values.combine_chunks().dictionary_encode()
    distinct = [None if v is None else change(v) for v in encoded.dictionary.to_pylist()]
    changed = pa.array(distinct, values.type)
    return changed.take(encoded.indices)
