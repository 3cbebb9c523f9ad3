"""One recording, from the first probe to the sealed folder."""

from __future__ import annotations

import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from droptape.bpf.client import Loaded, Loader
from droptape.bpf.kinds import all_kinds
from droptape.format.manifest import Clock, Manifest
from droptape.format.schema import Table
from droptape.format.tables import LOSSES, TABLES, TOTALS

from . import memory, privilege, ready
from .announce import Announcer
from .counts import Counts
from .earlier import remove_earlier
from .explain import Explainer
from .feed import Feed
from .host import SteadyOffset, check_clock, clock_pair, host
from .kallsyms import Symbols
from .live import LivePrinter
from .options import Options
from .outlet import Outlet
from .ownership import Ownership, choose
from .place import check_place
from .process_groups import ProcessGroups
from .recovery import recover_siblings
from .sampling.sampler import Sampler
from .scan import OwnerScan
from .status import StatusLine
from .stopping import Stopper, find_program
from .store import Store
from .sweep import sweep_first, sweep_last
from .version import version

_IDLE_WAIT_S, _BUSY_WAIT_S = 0.1, 0.01
_BUSY_FILL = 0.05
_CLOCK_EVERY_S, _CLOCK_MOVED_NS = 3600.0, 10**6
_PATIENCE_S = 1.0  # with a terminal that stands still


@dataclass(slots=True)
class Ended:
    """How a recording ended: rows per table, events lost, seconds, exit code, what went wrong."""

    folder: Path
    rows: dict[str, int]
    lost: int
    seconds: float
    code: int
    trouble: str


def record(options: Options, loader: Loader) -> Ended:
    """Record as `options` say until something asks to stop.

    Args:
        options: what was asked for.
        loader: what prepares the programs meanwhile.

    Raises:
        DroptapeError: the recording could not begin; nothing is left behind.
        StoppedError: a signal came before it began; nothing is left behind.
    """
    check_clock()
    find_program(options.command)
    ownership = choose(options.group)
    check_place(options.output)
    with Stopper(options.duration_s) as stopper:
        with stopper.nothing_begun(), ThreadPoolExecutor(1) as pool:
            symbols = pool.submit(Symbols.load)  # while the loader compiles
            loaded = loader.attach()
        try:
            stopper.prepare(options.command)
            return _Session(options, loaded, symbols.result(), ownership).run(stopper)
        finally:
            loaded.close()


class _Session:
    """The loop and what it works with."""

    def __init__(
        self, options: Options, loaded: Loaded, symbols: Symbols, ownership: Ownership
    ) -> None:
        kinds, enums = all_kinds(), loaded.enums()
        self._options = options
        self._loaded = loaded
        self._started = time.monotonic()
        self._ownership = ownership
        self._symbols = symbols
        tables: list[Table] = [kinds[name].table.with_enums(enums) for name in loaded.kinds]
        clock = clock_pair()
        manifest = Manifest(
            recording_id=str(uuid.uuid4()),
            host=host(),
            started_ns=clock.wall_ns,
            tables={},
            options=options.to_json(),
            recorder_version=version(),
            probes=loaded.probes,
            clocks=[clock],
            notes=privilege.notes(),
        )
        self._store = Store.create(
            options.output,
            manifest,
            {t.name: t for t in tables} | TABLES,
            rotate_bytes=options.rotate_bytes,
            rotate_seconds=options.rotate_s,
            disk_budget=options.disk_budget,
            made=self._give_up_privileges,
        )
        try:
            self._prepare(tables, clock)
        except BaseException:
            self._store.discard()
            raise

    def _prepare(self, tables: list[Table], clock: Clock) -> None:
        self._wall_offset_ns = SteadyOffset()
        self._scan = OwnerScan(self._loaded)
        groups = ProcessGroups()
        self._feed = Feed(self._loaded, tables, self._scan, self._store, groups)
        self._counts = Counts(self._loaded, tables)
        self._sampled: set[str] = set()
        self._noted_scan = False
        self._explainer = Explainer(self._store, groups)
        self._feed.watchers.append(self._explainer.watch)
        self._sampler = Sampler(self._loaded, self._explainer.watch)
        self._feed.watchers.append(self._sampler.watch)
        self._out, self._err = Outlet(sys.stdout), Outlet(sys.stderr)
        self._status = StatusLine(self._err)
        self._announcer = Announcer(self._err)
        self._live: LivePrinter | None = None
        if self._options.live:
            self._live = LivePrinter(self._out, self._symbols.text)
            self._feed.watchers.append(self._live.watch)
            self._status.enabled = False
        self._rows = dict.fromkeys(self._loaded.kinds, 0)
        self._feed.watchers.append(self._count_rows)
        self._clock_due = self._started + _CLOCK_EVERY_S
        self._clock_offset = clock.wall_ns - clock.mono_ns

    def _give_up_privileges(self, folder: Path) -> None:
        """Hand the new folder over, and go on as its owner, with few capabilities."""
        self._ownership.hand_over(folder)
        if self._ownership.gid is not None:
            os.umask(0o027)  # what the group may read it has to be able to read
        privilege.drop(
            self._ownership.uid, self._ownership.gid, signals=bool(self._options.command)
        )

    def _count_rows(self, table: Table, records: object, wall_offset_ns: int) -> None:
        self._rows[table.name] += len(records)  # type: ignore[arg-type]

    def run(self, stopper: Stopper) -> Ended:
        """Record until `stopper` says why to stop, then seal everything."""
        try:
            self._scan.run_if_due()
            sweep_first(self._loaded, self._take_rows)
            self._sampler.start(self._take_rows)
            ready.tell(self._options.ready_fd)
            stopper.start()
            self._take_rows()
            self._explainer.write_fixed(self._loaded, self._symbols)
            self._take_rows()
            Thread(target=self._recover, daemon=True).start()
            memory.give_back()
            self._loop(stopper)
        finally:
            self._finish(stopper.reason or "an error")
        return Ended(
            self._options.output,
            self._rows,
            self._lost(),
            time.monotonic() - self._started,
            stopper.exit_code(),
            self._store.trouble,
        )

    def _take_rows(self) -> None:
        """Empty the rings: on a busy host each step of the start may take a second."""
        self._feed.drain(self._wall_offset_ns())

    def _recover(self) -> None:
        own, keep = self._store.path, self._options.keep_recordings
        for failure in recover_siblings(own.parent)[1]:
            self._announcer.say(failure)
        for text in () if keep is None else remove_earlier(own.parent, keep, own):
            self._announcer.say(text)

    def _loop(self, stopper: Stopper) -> None:
        second, wait = time.monotonic(), _IDLE_WAIT_S
        while not stopper.reason:
            stopper.wait(wait)
            fill = self._feed.drain(self._wall_offset_ns())
            if self._live:
                self._live.flush()
                if self._live.gone:
                    stopper.reason = "nobody reads the events any more"
            wait = _BUSY_WAIT_S if fill > _BUSY_FILL else _IDLE_WAIT_S
            if time.monotonic() - second >= 1:
                second = time.monotonic()
                self._every_second()
                if self._store.gone:
                    stopper.reason = "the folder was deleted or moved"

    def _every_second(self) -> None:
        self._scan.run_if_due()
        if self._scan.refused and not self._noted_scan:
            self._noted_scan = True
            with self._store.update() as manifest:
                manifest.notes.append(f"owners are incomplete: {self._scan.refused}")
        self._take_counts()
        self._deliver()
        self._explainer.look_up()
        self._explainer.write()
        # A recording of weeks would fill with pairs that say nothing new.
        moved = abs(self._wall_offset_ns() - self._clock_offset) > _CLOCK_MOVED_NS
        if moved or time.monotonic() >= self._clock_due:
            self._clock_due = time.monotonic() + _CLOCK_EVERY_S
            self._add_clock()
        self._store.tick(time.monotonic())
        trouble = self._store.trouble
        if not self._store.gone:  # the last line will say that
            self._announcer.update(trouble, self._store.lost)
        self._status.update(
            {name: self._counts.events.get(name, 0) for name in self._loaded.kinds},
            self._lost(),
            self._store.bytes,
            trouble,
        )

    def _deliver(self) -> None:
        self._sampler.deliver(self._store, self._wall_offset_ns(), self._explainer.learn_settings)

    def _lost(self) -> int:
        """Return how many events are in no row: the kernel had no room, or the disk."""
        in_kernel = sum(sum(causes.values()) for causes in self._counts.lost.values())
        return in_kernel + self._store.lost

    def _add_clock(self) -> None:
        pair = clock_pair()
        self._clock_offset = pair.wall_ns - pair.mono_ns
        with self._store.update() as manifest:
            manifest.clocks.append(pair)

    def _take_counts(self, *, end: bool = False) -> None:
        offset = self._wall_offset_ns()
        self._store.append(TOTALS.name, self._counts.totals(end=end), offset)
        self._note_sampling()
        losses = self._counts.losses()
        if len(losses):
            self._store.append(LOSSES.name, losses, offset)
            with self._store.update() as manifest:
                for kind, causes in self._counts.lost.items():
                    manifest.losses.setdefault(kind, {}).update(causes)

    def _note_sampling(self) -> None:
        for name in sorted(self._counts.sampled - self._sampled):
            self._sampled.add(name)
            with self._store.update() as manifest:
                manifest.notes.append(
                    f"{name} were sampled where one key had more than {self._options.max_rate:,} "
                    "per second (--max-rate): sum(weight) counts them, count(*) does not"
                )

    def _drain(self) -> None:
        if not self._feed.drain_all(self._wall_offset_ns):
            with self._store.update() as manifest:
                manifest.notes.append(
                    "a record in the kernel's ring was never finished, and what came after it "
                    "could not be read: the totals have more than the rows"
                )

    def _finish(self, reason: str) -> None:
        try:
            self._end()
        finally:
            self._store.close(reason)
            self._feed.close()

    def _detach(self) -> None:
        """Have the kinds report what is still there, and end the probes."""
        # What is there, and no more: under a flood the rings are never empty before this has ended.
        sweep_last(self._loaded, lambda: self._feed.drain(self._wall_offset_ns(), last=True))
        self._sampler.stop()
        for name in [n for n in self._loaded.fds if n.startswith("link:")]:
            os.close(self._loaded.fds.pop(name))

    def _end(self) -> None:
        """Detach first, so that the rows and the totals that follow are the same events."""
        self._detach()
        self._drain()
        self._take_counts(end=True)
        self._deliver()
        self._explainer.look_up(last=True)
        self._explainer.write(now=True)
        self._add_clock()
        if self._live:
            self._live.flush(end=True)
        self._status.clear()
        for outlet in self._out, self._err:
            outlet.finish(_PATIENCE_S)
