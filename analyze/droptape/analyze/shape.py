"""SQL for columns that are declared and not stored."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from .engine import name

_SQL_TYPES = {
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "fixed_size_binary[16]": "BLOB",
}


def sql_type(field: pa.Field[Any]) -> str:
    """Return the SQL type of a stored column."""
    return _SQL_TYPES.get(str(field.type), "VARCHAR")


def null(field: pa.Field[Any]) -> str:
    """Return a null with the type and name of a stored column."""
    return f"NULL::{sql_type(field)} AS {name(field.name)}"


def empty(schema: pa.Schema) -> str:
    """Return a query with the columns of `schema` and no rows."""
    return f"SELECT {', '.join(null(field) for field in schema)} WHERE false"
