"""Telling datasets from recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable

from droptape.analyze.errors import RecordingError
from droptape.format.layout import is_recording

from .layout import is_dataset
from .store import FolderStore, Store, is_remote, open_store


def dataset_store(paths: Iterable[str | os.PathLike[str]]) -> Store | None:
    """Return where the dataset lies that `paths` names; None when they name recordings.

    Raises:
        RecordingError: a dataset together with anything else, or storage that cannot be reached.
    """
    texts = [os.fspath(path) for path in paths]
    named = [text for text in texts if is_remote(text) or _is_folder(text)]
    if not named:
        return None
    if len(texts) > 1:
        raise RecordingError(f"{named[0]} is a dataset, and is asked by itself")
    return open_store(named[0])


def _is_folder(text: str) -> bool:
    if "://" in text:
        return False
    try:
        store = open_store(text)
        if not isinstance(store, FolderStore) or not is_dataset(store.root):
            return False
    except OSError:
        return False  # find() says what is wrong with it
    if is_recording(store.root):
        # Made by droptape archive when it still took its last recording for the dataset.
        raise RecordingError(
            f"{store.root} is a recording into which a dataset was archived: to have the recording "
            f"back, remove _recordings, _tables and every date=* folder in it"
        )
    return True
