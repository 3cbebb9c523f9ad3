"""The public surface of droptape.analyze as text: ``python tests/unit/analyze/public_api.py``.

A change of golden/api.txt is a change that users of the API see.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import droptape.analyze

GOLDEN = Path(__file__).parent / "golden" / "api.txt"


def exported() -> dict[str, Any]:
    """Return what droptape.analyze exports, by name."""
    return {name: getattr(droptape.analyze, name) for name in sorted(droptape.analyze.__all__)}


def members(kind: type) -> dict[str, Any]:
    """Return the public methods and properties that a class has of its own, in order of name."""
    own = {
        name: value
        for base in reversed(kind.__mro__)
        if base.__module__.startswith("droptape.")
        for name, value in vars(base).items()
        if not name.startswith("_")
        and isinstance(value, property | classmethod | staticmethod) | inspect.isfunction(value)
    }
    return dict(sorted(own.items()))


def signature(function: Any) -> str:
    """Return a signature with its annotations as they are written in the source."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def describe() -> Iterator[str]:
    """Yield the lines of the golden file."""
    for name, value in exported().items():
        if not inspect.isclass(value):
            yield f"def {name}{signature(value)}"
            continue
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        yield from (f"    {line}" for line in _inside(value))


def _inside(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{one.name} = {one.value!r}" for one in kind)
        return
    if dataclasses.is_dataclass(kind):
        yield from (f"{field.name}: {field.type}" for field in dataclasses.fields(kind))
    elif "__init__" in vars(kind):
        yield f"def __init__{signature(vars(kind)['__init__'])}"
    for name, value in members(kind).items():
        if isinstance(value, property):
            assert value.fget is not None
            yield f"{name} -> {inspect.signature(value.fget).return_annotation}"
        else:
            plain = getattr(value, "__func__", value)
            yield f"def {name}{signature(plain)}"


def text() -> str:
    """Return the golden file's content."""
    return "".join(line + "\n" for line in describe())


if __name__ == "__main__":
    GOLDEN.write_text(text())
