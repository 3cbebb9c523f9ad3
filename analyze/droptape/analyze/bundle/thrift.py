"""Reading a struct in Thrift's compact protocol: the headers of Parquet pages.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEPTH = 4


class ThriftError(ValueError):
    """The bytes are no such struct."""


def struct(data: bytes) -> tuple[dict[int, Any], int]:
    """Return the fields of the struct that `data` begins with, by number, and its length.

    Numbers and inner structs have values; what else there is, is skipped.
    """
    reader = _Reader(data)
    try:
        return reader.struct(0), reader.at
    except IndexError as exc:
        raise ThriftError("a page header is cut off") from exc


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _DEPTH:
            raise ThriftError("a page header is nested too deeply")
        fields: dict[int, Any] = {}
        last = 0
        while head := self._byte():
            kind = head & 15
            last = last + (head >> 4) if head >> 4 else self._number()
            if last in fields:
                raise ThriftError("a page header has a field twice")
            fields[last] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._number()
        if kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._varint())
        elif kind == _STRUCT:
            return self.struct(depth + 1)
        else:
            raise ThriftError("a page header holds what none does")
        return None

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ThriftError("a page header has a number that is too long")

    def _number(self) -> int:
        raw = self._varint()
        return (raw >> 1) ^ -(raw & 1)

    def _skip(self, count: int) -> None:
        if self.at + count > len(self.data):
            raise ThriftError("a page header is cut off")
        self.at += count
