"""Reading JSON, making dataclasses of its values, and refusing what does not fit their fields."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Reader = Callable[[Any], Any]
_NOTHING: Mapping[str, Any] = {}
_INT64 = 1 << 63
_LATEST = 1 << 62
"""The year 2116, in ns: sums of instants below it fit into 64 bits."""
_INSTANTS = ("_ns",)
_SIGNED = ("first_ns", "last_ns")
"""Times of rows, which are what a kernel or a clock said."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def loads(text: bytes) -> Any:
    """Return what JSON says; ValueError if it is none, or says a text that cannot be written down.

    An escape can stand for half a character. We never write such a text, and who prints or stores
    one fails far from here.
    """
    found = json.loads(text)
    # Both halves of a character are fine, so what looks like one is looked at again.
    if _SURROGATE.search(text):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text in it has half a character") from None
    return found


def build(kind: type[_T], data: Any, **made: Any) -> _T:
    """Return `kind`, a dataclass, made of a JSON object; ValueError or TypeError if it is not one.

    Numbers are whole and fit into 64 bits; below zero are only times of rows. Instants are before
    2116. What nobody knows is ignored: a later version may have added it.

    Args:
        kind: the dataclass.
        data: the object.
        made: fields that are made already.
    """
    known: Any = kind  # for mypy classes are not hashable
    found: _T = _object(known, kind.__name__, frozenset(made))(data, made)
    return found


@lru_cache(maxsize=256)
def _reader(hint: Any, name: str) -> _Reader:
    """Return what checks a value of the field `name`, and makes what `hint` says of it."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint is int:
        return _whole(name)
    if hint in (str, bool):
        return _exactly(hint, name)
    if origin in (Union, types.UnionType):
        (other,) = (one for one in inner if one is not type(None))
        read = _reader(other, name)
        return lambda value: None if value is None else read(value)
    if origin is Literal:
        return _one_of(inner, name)
    if origin is list:
        item = _reader(inner[0], name)
        return lambda value: [item(one) for one in _of(list, value, name)]
    if origin is dict:
        each = _reader(inner[1], name)
        return lambda value: {str(key): each(one) for key, one in _of(dict, value, name).items()}
    known: Any = hint
    assert is_dataclass(hint)
    return _object(known, name, frozenset())


@lru_cache(maxsize=64)
def _object(kind: Any, name: str, made: frozenset[str]) -> Callable[..., Any]:
    hints = get_type_hints(kind)
    readers = {f.name: _reader(hints[f.name], f.name) for f in fields(kind) if f.name not in made}
    needed = {
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    } - made

    def read(value: Any, given: Mapping[str, Any] = _NOTHING) -> Any:
        data: Mapping[str, Any] = _of(dict, value, name)
        missing = needed - set(data)
        if missing:
            raise ValueError(f"{name} has no {min(missing)}")
        known = {key: readers[key](one) for key, one in data.items() if key in readers}
        return kind(**known, **given)

    return read


def _of(kind: type[_T], value: Any, name: str) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {_shown(value)}")
    return value


def _exactly(kind: type, name: str) -> _Reader:
    return lambda value: _of(kind, value, name)


def _one_of(values: tuple[Any, ...], name: str) -> _Reader:
    def read(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{name} is {_shown(value)}")
        return value

    return read


def _whole(name: str) -> _Reader:
    most = _LATEST if name.endswith(_INSTANTS) else _INT64
    least = -_INT64 if name in _SIGNED else 0

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value < most:
            raise ValueError(f"{name} is {_shown(value)}")
        return value

    return read


def _shown(value: Any) -> str:
    return repr(value)[:60]
