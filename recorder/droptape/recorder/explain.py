"""The dictionaries of a recording: what makes its numbers readable elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from droptape.bpf.client import Loaded
from droptape.format.decode import Records
from droptape.format.schema import Table
from droptape.format.tables import (
    CGROUPS,
    COUNTERS,
    NETNS_NAMES,
    PROCESSES,
    REASONS,
    SYMBOLS,
    SYSCTLS,
)

from .cgroups import Cgroups
from .container_names import ContainerNames
from .kallsyms import Symbols, loaded_modules
from .lives import NamespaceLives, ProcessLives
from .netns import NetnsNames
from .pid_namespace import NOTE, is_initial
from .process_groups import ProcessGroups
from .processes import process_row
from .seen import Seen
from .store import Store

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 600.0
_MOST_ROWS = 20_000
"""That wait for a file; each takes 0.6 KB of memory."""
_KEEP_S = {"owner_pid": 60.0, "cgroup_id": float("inf"), "netns": 60.0}
"""When the numbers of a column are looked up again: no two control groups have the same one."""
_LIFE = b"netns.life"
_MOST_LIVES = 1 << 16


class _Patience:
    """How long to wait between files: ever longer, so that weeks do not fill with small ones."""

    def __init__(self) -> None:
        self._wait = _FIRST_WAIT_S
        self._written = float("-inf")

    def over(self) -> bool:
        return time.monotonic() - self._written >= self._wait

    def written(self) -> None:
        self._written = time.monotonic()
        self._wait = min(self._wait * 2, _LONGEST_WAIT_S)


class Explainer:
    """Looks up each new process, control group and namespace soon after its first event.

    What it learns is written when there is something new, at first at once and then less and less
    often, or when much of it waits. The rows of settings that a sampler read wait with the rest.
    """

    def __init__(self, store: Store, groups: ProcessGroups | None = None) -> None:
        self._store = store
        self._groups = groups or ProcessGroups()
        names = ContainerNames()
        self._cgroups = Cgroups(names=names)
        self._own_pids = is_initial()
        self._netns = NetnsNames(containers=names, tell_pids=self._own_pids)
        self._seen = {name: Seen(keep_s) for name, keep_s in _KEEP_S.items()}
        self._processes = ProcessLives()
        self._spaces = NamespaceLives()
        self._lives: dict[int, int] = {}
        self._new: dict[str, set[int]] = {"owner_pid": set(), "cgroup_id": set(), "netns": set()}
        self._rows: dict[str, list[dict[str, object]]] = {
            table.name: [] for table in (PROCESSES, CGROUPS, NETNS_NAMES, SYSCTLS)
        }
        self._modules = loaded_modules()
        if not self._own_pids:
            self._note(NOTE)
        self._patience, self._modules_patience = _Patience(), _Patience()

    def write_fixed(self, loaded: Loaded, symbols: Symbols) -> None:
        """Write what does not change while recording."""
        self._store.write_dictionary(SYMBOLS.name, symbols.table())
        self._store.write_dictionary(REASONS.name, [reason._asdict() for reason in loaded.reasons])

    def watch(self, table: Table, records: Records, wall_offset_ns: int) -> None:
        """Remember the numbers of a batch that were not seen lately."""
        if table.name == COUNTERS.name:
            self._watch_lives(records)
        for name, seen in self._seen.items():
            if name not in table.dtype.fields:  # type: ignore[operator]
                continue
            # Hashing beats sorting here: a batch has few distinct values.
            keys = _processes(records) if name == "owner_pid" else records[name]
            new = seen.new(set(np.unique(keys).tolist()))
            if new and name == "owner_pid":
                new = set(records[name][np.isin(keys, np.array(list(new), "u8"))].tolist())
            self._new[name] |= new - {0}

    def _watch_lives(self, records: Records) -> None:
        """Look a namespace up again when the counters are those of another with its number."""
        rows = records[records["name"] == _LIFE]
        if len(self._lives) > _MOST_LIVES:
            self._lives.clear()
        for inum, life in zip(rows["netns"].tolist(), rows["value"].tolist(), strict=True):
            if self._lives.setdefault(inum, life) != life:
                self._lives[inum] = life
                self._seen["netns"].forget(inum)

    def look_up(self, *, last: bool = False) -> None:
        """Find out about the new numbers, while they still mean something.

        Args:
            last: give up what takes long to find out.
        """
        for table, number in self._store.forgotten():
            if table == PROCESSES.name:
                self._processes.forget(number)
            else:
                self._seen["cgroup_id"].forget(number)
        for pid in self._take("owner_pid"):
            row = process_row(pid) if self._own_pids else None
            if row is not None:
                self._rows[PROCESSES.name] += self._processes.news(row)
        cgroups = self._take("cgroup_id")
        for groups in self._cgroups, self._groups:
            self._rows[CGROUPS.name] += groups.rows(cgroups, last=last)
        modules = loaded_modules()
        if modules != self._modules and self._modules_patience.over():
            # A module that came after the start has code that no symbol of the start covers.
            self._modules = modules
            self._modules_patience.written()
            self._save(SYMBOLS.name, Symbols.load().table(only_modules=True))
        spaces = self._take("netns") | self._netns.renamed(self._spaces.names)
        for row in self._netns.rows(spaces) if spaces else ():
            lost = row["inum"] in self._netns.lost
            self._rows[NETNS_NAMES.name] += self._spaces.news(row, lost=lost)
        self._netns.lost -= spaces

    def learn_settings(self, rows: Iterable[dict[str, object]]) -> None:
        """Take rows of SYSCTLS, to be written with what was looked up."""
        self._rows[SYSCTLS.name] += rows

    def _take(self, name: str) -> set[int]:
        new, self._new[name] = self._new[name], set()
        return new

    def write(self, *, now: bool = False) -> None:
        """Write what was learned, if it is time, or too much to wait with, or `now`."""
        waiting = sum(map(len, self._rows.values()))
        if not waiting or not (now or waiting >= _MOST_ROWS or self._patience.over()):
            return
        for name, rows in self._rows.items():
            if rows:
                self._save(name, rows)
                self._rows[name] = []
        self._patience.written()

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


def _processes(records: Records) -> npt.NDArray[np.uint64]:
    """Return a number for each record's owner, another one when its process has another name."""
    comm = np.ascontiguousarray(records["owner_comm"]).view("u8").reshape(-1, 2)
    keys: npt.NDArray[np.uint64] = records["owner_pid"].astype("u8")
    for part in comm.T:
        keys = (keys ^ part) * np.uint64(0x9E3779B97F4A7C15)
    return keys
