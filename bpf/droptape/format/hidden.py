"""Modules that another one could import, but need not."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class _Hidden:
    """An importer that does not find some modules."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Say so when asked for one of them."""
        if name in self._names:
            raise ModuleNotFoundError(name, name=name)


@contextmanager
def hidden(names: Collection[str]) -> Iterator[None]:
    """Let nothing import the modules called `names` within this block."""
    importer = _Hidden(names)
    sys.meta_path.insert(0, importer)
    try:
        yield
    finally:
        sys.meta_path.remove(importer)


def import_pyarrow(names: Collection[str] = ()) -> None:
    """Import pyarrow without pandas, which it imports with the first array.

    pandas takes 40 MB and half a second. Whoever has imported it already keeps it.

    Args:
        names: what it shall do without as well.
    """
    if "pandas" in sys.modules:
        return
    with hidden({"pandas", *names}):
        import pyarrow as pa

        pa.array([0])  # asks once, and keeps the answer
