"""Completing what a killed recorder left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from droptape.format.errors import DroptapeError, FormatError
from droptape.format.journal import JournalReader
from droptape.format.layout import is_recording, sequence_of
from droptape.format.manifest import Host, Manifest, Segment, sha256
from droptape.format.removal import is_put_together

from .budget import STATES
from .host import host
from .jobs import record_and_retire
from .ledger import Ledger
from .lock import FolderLock, LockedError
from .reserve import PATTERN
from .seal import DAMAGED, Sealed, count_rows, seal_journal, target_of, unreadable
from .segment import describe


class RecoveryError(DroptapeError):
    """A recording could not be completed now; nothing of it was lost."""


@dataclass(slots=True)
class Report:
    """What `recover` did to one recording.

    Attributes:
        folder: the recording.
        journals: how many journals were sealed.
        rows: rows in them.
        damage: one sentence for each file with unreadable parts.
        killed: whether the recorder had been killed, as far as its manifest says.
    """

    folder: Path
    journals: int = 0
    rows: int = 0
    damage: list[str] = field(default_factory=list)
    killed: bool = False


def needs_recovery(folder: Path) -> bool:
    """Say whether `folder` has journals, or a manifest that still says ``recording``."""
    try:
        return Manifest.read(folder).state == "recording" or any(_journals(folder))
    except (FormatError, OSError):
        return False


def recover(folder: Path) -> Report:
    """Seal the journals of a recording whose recorder is gone, and complete its manifest.

    Doing it again, also after it was killed itself, does no harm.

    Raises:
        LockedError: a recorder is writing to it.
        FormatError: its manifest is missing or damaged.
        RecoveryError: the disk does not let it.
    """
    manifest = Manifest.read(folder)
    try:
        lock = FolderLock(folder)
    except OSError as exc:
        raise RecoveryError(f"{folder} cannot be recovered: {exc.strerror}") from exc
    try:
        # Again, now that nobody else changes it.
        manifest = Manifest.read(folder)
        return _complete(folder, manifest)
    except OSError as exc:
        where = exc.filename or folder
        raise RecoveryError(f"{where} cannot be recovered: {exc.strerror or exc}") from exc
    finally:
        lock.release()


def recover_siblings(parent: Path) -> tuple[list[Report], list[str]]:
    """Recover the recordings in `parent` that this user made on this host, recorder gone.

    Returns:
        What was recovered, and one sentence for each recording where that failed.
    """
    reports: list[Report] = []
    failures: list[str] = []
    try:
        folders = sorted(parent.iterdir())
    except OSError as exc:
        return reports, [f"{parent} was not searched for unfinished recordings: {exc.strerror}"]
    for folder in folders:
        try:
            # What belongs to somebody else may hold links to anywhere.
            if folder.lstat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            if not is_recording(folder) or not needs_recovery(folder):
                continue
            if of_this_host(Manifest.read(folder).host):
                reports.append(recover(folder))
        except (LockedError, FileNotFoundError):
            continue  # it is at work, or gone since the folder was listed
        except DroptapeError as exc:
            failures.append(str(exc))
        except Exception as exc:  # noqa: BLE001 - one must not keep the others from it
            failures.append(f"{folder} cannot be recovered: {exc!r}")
    return reports, failures


def of_this_host(recorded: Host) -> bool:
    """Say whether a recording was made here. Containers have another name at each start."""
    here = host()
    if recorded.machine_id and here.machine_id:
        return recorded.machine_id == here.machine_id
    return recorded.name == here.name


def _complete(folder: Path, manifest: Manifest) -> Report:
    report = Report(folder, killed=manifest.state == "recording")
    ledger = Ledger(folder, manifest)
    _remove_stale(folder)
    starts: dict[tuple[str, bytes], str] = {}
    refused: OSError | None = None  # one journal on a bad sector must not keep the others
    for journal in sorted(_journals(folder)):
        try:
            if why := _not_ours(ledger, journal, starts):
                report.damage.append(f"{journal} {why}, and was left alone")
            else:
                _seal(ledger, journal, report)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            exc.filename = exc.filename or str(journal)
            refused = refused or exc
    _adopt(folder, ledger, manifest, report)
    if refused is not None:
        raise refused
    if report.killed:
        with ledger.change():
            manifest.state = "recovered"
            manifest.ended_by = "the recorder was killed"
            manifest.ended_ns = max(
                (s.last_ns for s in ledger.segments() if s.last_ns is not None),
                default=manifest.started_ns,
            )
            manifest.notes.append(
                f"the recorder was killed; {report.rows} rows were recovered from "
                f"{report.journals} journals"
            )
        ledger.save()
    return report


def _not_ours(ledger: Ledger, journal: Path, starts: dict[tuple[str, bytes], str]) -> str:
    """Return what keeps a journal from being sealed where it is, "" when nothing does.

    Args:
        ledger: of the recording.
        journal: the file.
        starts: names of the journals before it, by table and what tells their first rows from
            others; it is added.
    """
    try:
        reader = JournalReader(journal)
        next(reader.frames(), None)
    except FormatError:
        return ""
    if reader.recording not in ("", ledger.recording_id):
        return "is of another recording"
    if reader.table.name != journal.parent.name:
        return f"is a journal of the table {reader.table.name}"
    if not reader.start:
        return ""
    first = starts.setdefault((reader.table.name, reader.start), journal.name)
    return "" if first == journal.name else f"is a copy of {first}"


def _seal(ledger: Ledger, journal: Path, report: Report) -> None:
    sealed = _already_sealed(journal)
    if sealed is None:
        try:
            sealed = seal_journal(journal, ledger.started_ns)
        except FormatError as exc:
            # A journal is empty when the kill came between its creation and its first bytes, and
            # after a power cut.
            sealed = unreadable(journal, exc) if journal.stat().st_size else Sealed(None, "")
            if not sealed.damage:
                name = f"{journal.parent.name}/{journal.name}"
                ledger.note(f"{name} was empty: if there were rows, none had reached the disk")
        if copied := _copied(ledger, sealed.segment):
            target_of(journal).unlink()
            report.damage.append(f"{journal} is a copy of what became {copied}, and was left alone")
            return
        report.journals += 1
        report.rows += sealed.rows
    if sealed.damage:
        report.damage.append(f"{journal}: {sealed.damage}")
    record_and_retire(ledger, journal, sealed)


def _copied(ledger: Ledger, sealed: Segment | None) -> str:
    """Return the listed file that has the rows of a journal already, "" when none has."""
    if sealed is None or sealed.first_ns is None or sealed.last_ns is None:
        return ""
    for listed in ledger.segments(sealed.table):
        other = listed.file != sealed.file
        if other and listed.has(sealed.rows, sealed.first_ns, sealed.last_ns):
            return listed.file
    return ""


def _already_sealed(journal: Path) -> Sealed | None:
    """Return the segment that `journal` has become, None when there is no whole one.

    A segment is on disk before it gets its name, and its journal need never have been: after a
    power cut it may be shorter than what it became, or empty.
    """
    target = target_of(journal)
    if not target.is_file():
        return None
    try:
        segment = describe(target)
    except FormatError:
        segment = None
    rows, damage, torn = 0, "", False
    with suppress(FormatError):
        rows, reader = count_rows(journal)
        damage, torn = reader.damage, reader.torn
    if segment is not None and segment.rows >= rows:
        return Sealed(segment, damage if segment.rows == rows else "", torn)
    target.replace(target.with_name(target.name + DAMAGED))
    return None


def _adopt(folder: Path, ledger: Ledger, manifest: Manifest, report: Report) -> None:
    """Take segments into the manifest that were renamed into place just before the kill."""
    known = {segment.file: segment for segment in ledger.segments()}
    replaceable = _replaceable(ledger, manifest)
    for path in sorted(folder.glob("*/[0-9]*.parquet")):
        if path.parent.name not in manifest.tables or not sequence_of(path.name):
            continue
        listed = known.get(f"{path.parent.name}/{path.name}")
        removed = manifest.removed.get(path.parent.name)
        going = removed is not None and sequence_of(path.name) <= removed.through
        if listed is None and going:
            path.unlink(missing_ok=True)  # the kill came before the disk budget's last step
            continue
        if listed is not None and not (listed.file in replaceable and _differs(path, listed)):
            continue
        if not path.is_file():
            continue  # nobody's segment: a pipe would be waited for
        try:
            ledger.add(describe(path))
        except FormatError as exc:
            report.damage.append(str(exc))
            ledger.note(str(exc))


def _replaceable(ledger: Ledger, manifest: Manifest) -> set[str]:
    """Return the files in whose place the disk budget may have put others just before the kill.

    Those are the first of a table, and the second when the first was made so before.
    """
    if manifest.options.get("disk_budget") is None:
        return set()
    names = {name for name, table in manifest.tables.items() if is_put_together(table)}
    found: set[str] = set()
    for table in STATES.keys() | names:
        found.update(sorted(s.file for s in ledger.segments(table))[:2])
    return found


def _differs(path: Path, segment: Segment) -> bool:
    return path.stat().st_size != segment.bytes or sha256(path) != segment.sha256


def _journals(folder: Path) -> Iterator[Path]:
    found = folder.glob("*/[0-9]*.journal")
    regular = (path for path in found if path.is_file() and not path.is_symlink())
    return (path for path in regular if sequence_of(path.name))


def _remove_stale(folder: Path) -> None:
    """Remove files that were being written: what they would have become is still elsewhere."""
    for pattern in (PATTERN, ".recording.json.*", "*/.[0-9]*.parquet"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
