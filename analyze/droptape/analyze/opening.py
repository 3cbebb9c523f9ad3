"""Opening recordings, bundles and datasets for asking."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from . import times
from .bundle.container import is_bundle
from .database import EngineName, Settings
from .dataset.opening import dataset_store
from .dataset.origin import open_dataset
from .errors import QueryError, RecordingError
from .find import find, short_names
from .integrity import Allowance
from .origin import Folders
from .recording import Recording, When
from .source import Problem, Source, load
from .temporary import TemporaryFolder


def open_recording(
    *paths: str | os.PathLike[str],
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_folder: str | os.PathLike[str] | None = None,
    start: When = None,
    end: When = None,
    hosts: Sequence[str] = (),
    engine: EngineName = "duckdb",
    master: str | None = None,
) -> Recording:
    """Open recordings for asking.

    Args:
        paths: folders of recordings, bundles, or globs of them; or one dataset (`archive`).
        memory_limit: what queries may use before they spill to disk, such as ``2GB``; half of the
            memory when None.
        threads: processors to use; all when None.
        temp_folder: where a private folder for spilled data is made; the system's when None.
        start: only from this time on, as in `Recording.between`.
        end: only before this time.
        hosts: of a dataset, only these: names or globs.
        engine: what runs the queries; ``spark`` takes a dataset, and does not do all of it.
        master: of the Spark cluster, such as ``spark://host:7077``; SPARK_MASTER or this machine
            when None.

    Returns:
        A recording whose `problems` name the files that could not be read.

    Raises:
        RecordingError: a path is no recording, or nothing can be read.
        QueryError: `start` or `end` is no time.
    """
    settings = Settings(memory_limit, threads, temp_folder, engine, master)
    store = dataset_store(paths)
    if store is not None:
        dataset, window = open_dataset(store, hosts, start, end)
        return Recording(dataset, window, settings)
    if hosts:
        raise QueryError("hosts are of a dataset: droptape archive makes one")
    found = find(paths)
    with contextlib.ExitStack() as failing:
        held = failing.enter_context(contextlib.ExitStack())
        unpacked: Path | None = None
        if any(map(is_bundle, found)):
            folder = TemporaryFolder("droptape-bundle-", temp_folder)
            unpacked = Path(held.enter_context(folder))
        sources, problems = _load_all(found, unpacked)
        origin = Folders(sources, problems)
        window = times.window(start, end, origin.landmarks())
        recording = Recording(origin, window, settings, held=held)
        failing.pop_all()
        return recording


def _load_all(found: list[Path], unpacked: Path | None) -> tuple[list[Source], list[Problem]]:
    sources: list[Source] = []
    problems: list[Problem] = []
    allowance = Allowance()
    for number, (path, name) in enumerate(zip(found, short_names(found), strict=True)):
        try:
            unpack_to = unpacked / str(number) if unpacked else None
            sources.append(load(path, name, unpack_to, allowance))
        except RecordingError as exc:
            if len(found) == 1:
                raise
            problems.append(Problem(path, re.sub(rf"^{re.escape(str(path))}:? ", "", str(exc))))
    if not sources:
        raise RecordingError(f"nothing can be read: {problems[0]}")
    return sources, problems
