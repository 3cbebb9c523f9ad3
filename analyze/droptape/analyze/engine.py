"""The DuckDB connection: bounded, and closed to everything but the recording's own files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import duckdb

_MIB = 1 << 20


def connect(
    files: Iterable[str],
    temp: Path,
    *,
    memory_limit: str | None = None,
    threads: int | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database that may read `files` and spill to `temp`, and nothing else.

    The settings are locked before any SQL of a user runs. They do not stop every write: a COPY
    may still write to `files` and `temp`, which is why statements.py lets none through.

    Args:
        files: sealed segments.
        temp: private folder for spilled data.
        memory_limit: such as ``2GB``; half of what this process may use when None.
        threads: the processors this process may use when None.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit or f"{default_memory() // _MIB}MiB",
            "threads": str(threads or available_processors()),
            "temp_directory": str(temp),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "python_enable_replacements": "false",
            "python_scan_all_frames": "false",
            "preserve_insertion_order": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET parquet_metadata_cache = true")
    with suppress(duckdb.InvalidInputException):  # in Jupyter without ipywidgets there is none
        connection.execute("SET enable_progress_bar = false")
    connection.execute("SET allowed_paths = " + sql_list(files))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def sql_list(texts: Iterable[str]) -> str:
    """Return a SQL list of string literals."""
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def listed(column: str, texts: Iterable[str]) -> str:
    """Return a query with one column of texts."""
    parts = [f"SELECT {literal(text)} AS {name(column)}" for text in texts]
    return " UNION ALL ".join(parts) or f"SELECT NULL::VARCHAR AS {name(column)} WHERE false"


def literal(text: str) -> str:
    """Return a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """Return a quoted SQL identifier."""
    return '"' + text.replace('"', '""') + '"'


def available_processors() -> int:
    """Count the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory() -> int:
    """Return half of the memory this process may use, in bytes: of the host or of its cgroup."""
    total = 4 << 30
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(total // 2, 256 * _MIB)
