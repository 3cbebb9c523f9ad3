"""Where an answer goes: standard output, a file that appears whole, or a device as it is."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os.path import samestat
from pathlib import Path
from typing import TextIO

from droptape.format.layout import LOCK, MANIFEST, is_recording, sequence_of

from . import interrupt
from .dataset.layout import TABLES, is_dataset
from .errors import QueryError

_LINKS = 40
"""Symbolic links in a row that are followed, as by the kernel."""


@contextmanager
def destination(output: Path | None) -> Iterator[TextIO]:
    """Open `output`, or standard output, for text.

    A file appears whole under its name, or not at all; a device or a pipe gets the text as it
    comes.

    Raises:
        QueryError: it cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    interrupt.stop()
    if output is None:
        with _failing("standard output"):
            yield sys.stdout
            sys.stdout.flush()
        return
    with _failing(str(output)):
        target, direct = _target(output)
        if direct:
            with _text(_open(target)) as file:
                yield file
            return
        with _replacing(target) as aside, _text(os.open(aside, os.O_WRONLY)) as file:
            yield file


@contextmanager
def whole_file(output: Path) -> Iterator[Path]:
    """Give a file to write aside, which becomes `output` when all went well.

    For what is not written from start to end. A device or a pipe gets the whole of it afterwards.

    Raises:
        QueryError: it cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    with _failing(str(output)):
        target, direct = _target(output)
        if not direct:
            with _replacing(target) as aside:
                yield aside
            return
        with tempfile.NamedTemporaryFile(prefix="droptape-output-") as made:
            yield Path(made.name)
            with os.fdopen(_open(target), "wb") as out:
                while piece := made.read(1 << 20):
                    out.write(piece)


def check(output: Path, sources: Iterable[Path | None] = ()) -> None:
    """Try whether `output` could be written, before the work for it is done.

    Raises:
        QueryError: it could not, or is one of `sources`.
    """
    refuse_source(output, sources)
    with _failing(str(output)):
        target, direct = _target(output)
        if not direct:
            with tempfile.TemporaryFile(dir=target.absolute().parent):
                return


def refuse_source(output: str | os.PathLike[str] | None, sources: Iterable[Path | None]) -> None:
    """Refuse to write over what is read.

    Args:
        output: where an answer is to go.
        sources: what is read; folders, and files that are not there, are no matter.

    Raises:
        QueryError: `output` is one of these files, also by another name.
    """
    with suppress(OSError):  # what cannot be looked at is said when it is written
        target = Path(output).stat() if output is not None else None
        for source in sources:
            if target and source and source.is_file() and samestat(source.stat(), target):
                raise QueryError(f"{output} is what is read: name another file")


def is_stream(output: Path) -> bool:
    """Say whether `output` is a device or a pipe, which keeps nothing that could be looked at."""
    return _target(output)[1]


@contextmanager
def _failing(place: str) -> Iterator[None]:
    """Say which place cannot be written. An error without a number is one of what is written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        if exc.errno is None:
            raise
        raise QueryError(f"{place} cannot be written: {exc.strerror or exc}") from exc


def _target(output: Path) -> tuple[Path, bool]:
    """Return where `output` leads, and whether that is written as it is instead of replaced.

    Root could replace a device by a file, and from then on all others would write into that.
    """
    target = output
    for _ in range(_LINKS):
        folder = Path(os.path.realpath(target.parent))
        if folder.is_relative_to("/proc"):
            return target, True  # an open file, as /dev/stdout is, whatever the link says
        keeper = _keeper(folder, target)
        if keeper is not None:
            raise QueryError(f"{output} is a file of {keeper} itself: name another file")
        if not target.is_symlink():
            break
        target = folder / target.readlink()
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, False
    if stat.S_ISDIR(mode):
        raise QueryError(f"{output} is a folder: name a file")
    if stat.S_ISBLK(mode):
        raise QueryError(f"{output} is a disk: name a file")
    return target, not stat.S_ISREG(mode)


def _keeper(folder: Path, target: Path) -> Path | None:
    """Return the recording or dataset that has `target`, which lies in `folder`, as its own file.

    A report beside the tables of a recording is none of its own.
    """
    if target.name in (MANIFEST, LOCK):
        return folder if is_recording(folder) else None
    # Without its manifest a recording still is one.
    kept = is_recording(folder.parent) or (sequence_of(target.name) and target.exists())
    if kept and target.suffix in (".parquet", ".journal"):
        return folder.parent
    depth = 1 if folder.name == TABLES else 3 if folder.name.startswith("host=") else 0
    above = folder.parents[depth - 1 : depth] if depth else ()
    return next((dataset for dataset in above if is_dataset(dataset)), None)


def _open(target: Path) -> int:
    # At the end: a file that the shell has redirected /dev/stdout to keeps what it has.
    return os.open(target, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)


def _text(descriptor: int) -> TextIO:
    # A name from a recorded host may be no UTF-8, and must not end the answer half way.
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a file beside `target`, which takes its place in the end."""
    # Shortened, so that the longest name which a file can have stays possible.
    prefix = f".{target.name[:32]}."
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=target.absolute().parent)
    aside = Path(name)
    try:
        os.close(descriptor)
        yield aside
        interrupt.stop()
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
