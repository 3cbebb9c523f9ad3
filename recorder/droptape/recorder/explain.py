"""The dictionaries of a recording: what makes its numbers readable elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from droptape.bpf.client import Loaded
from droptape.format.decode import Records
from droptape.format.schema import Table
from droptape.format.tables import CGROUPS, NETNS_NAMES, PROCESSES, REASONS, SYMBOLS

from .cgroups import Cgroups
from .kallsyms import Symbols, loaded_modules
from .netns import NetnsNames
from .pid_namespace import NOTE, is_initial
from .process_groups import ProcessGroups
from .processes import process_row
from .store import Store

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 600.0


class Explainer:
    """Looks up each new process, control group and namespace soon after its first event.

    What it learns is written when there is something new, at first at once and then less and less
    often, so that a recording of weeks does not fill with small files.
    """

    def __init__(self, store: Store, groups: ProcessGroups | None = None) -> None:
        self._store = store
        self._groups = groups or ProcessGroups()
        self._cgroups = Cgroups()
        self._own_pids = is_initial()
        self._netns = NetnsNames(tell_pids=self._own_pids)
        self._known: dict[str, set[int]] = {"owner_pid": set(), "cgroup_id": set(), "netns": set()}
        self._new: dict[str, set[int]] = {"owner_pid": set(), "cgroup_id": set(), "netns": set()}
        self._rows: dict[str, list[dict[str, object]]] = {
            table.name: [] for table in (PROCESSES, CGROUPS, NETNS_NAMES)
        }
        self._modules = loaded_modules()
        if not self._own_pids:
            self._note(NOTE)
        self._wait = _FIRST_WAIT_S
        self._written = 0.0

    def write_fixed(self, loaded: Loaded, symbols: Symbols) -> None:
        """Write what does not change while recording."""
        self._store.write_dictionary(SYMBOLS.name, symbols.table())
        self._store.write_dictionary(REASONS.name, [reason._asdict() for reason in loaded.reasons])

    def watch(self, table: Table, records: Records, wall_offset_ns: int) -> None:
        """Remember the numbers of a batch that were not seen before."""
        for name, known in self._known.items():
            if name not in table.dtype.fields:  # type: ignore[operator]
                continue
            # Hashing beats sorting here: a batch has few distinct values.
            new = set(np.unique(records[name]).tolist()) - known - {0}
            if new:
                known |= new
                self._new[name] |= new

    def look_up(self) -> None:
        """Find out about the new numbers, while they still mean something."""
        for pid in self._take("owner_pid"):
            row = process_row(pid) if self._own_pids else None
            if row is not None:
                self._rows[PROCESSES.name].append(row)
        cgroups = self._take("cgroup_id")
        if cgroups:
            self._rows[CGROUPS.name] += self._cgroups.rows(cgroups) + self._groups.rows(cgroups)
        modules = loaded_modules()
        if modules != self._modules:
            # A module that came after the start has code that no symbol of the start covers.
            self._modules = modules
            self._save(SYMBOLS.name, Symbols.load().table(only_modules=True))
        spaces = self._take("netns")
        if spaces:
            self._rows[NETNS_NAMES.name] += self._netns.rows(spaces)

    def _take(self, name: str) -> set[int]:
        new, self._new[name] = self._new[name], set()
        return new

    def write(self, *, now: bool = False) -> None:
        """Write what was learned, if it is time or `now`."""
        waited = time.monotonic() - self._written
        if not any(self._rows.values()) or (waited < self._wait and not now):
            return
        for name, rows in self._rows.items():
            if rows:
                self._save(name, rows)
                self._rows[name] = []
        self._written = time.monotonic()
        self._wait = min(self._wait * 2, _LONGEST_WAIT_S)

    def _save(self, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> None:
        """Write `rows`, or note why they are missing: names are no reason to stop recording."""
        try:
            self._store.write_dictionary(table, rows)
        except Exception as exc:  # noqa: BLE001 - whatever a stranger's name leads to
            self._note(f"{len(rows)} rows of {table} were not written: {exc!r}")

    def _note(self, text: str) -> None:
        with self._store.update() as manifest:
            if text not in manifest.notes:
                manifest.notes.append(text)
