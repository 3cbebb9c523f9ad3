"""One sealed segment: a Parquet file written aside, checked, and renamed into place."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from droptape.format.errors import FormatError
from droptape.format.journal import write_all
from droptape.format.layout import open_regular
from droptape.format.manifest import Segment, sha256, sync_folder
from droptape.format.rollup import KEY
from droptape.format.schema import Table
from droptape.format.types import ADDRESS, MONO

ROW_GROUP = 131_072
"""Rows of a row group: what is sorted together, and the unit that a reader skips."""

_ZSTD_LEVEL = 1
_BLOOM_MAX_NDV = 4096
_BLOOM_FPP = 0.05
# Values that hardly repeat, `address` and `name` in the dictionary of symbols: an encoding by
# dictionary would be larger than they are, and making it would take 25 MB.
_PLAIN = frozenset({"seq", "ack", "address", "name"})


# pyarrow gets open files everywhere below: it takes a name such as load-12:30/drops for a URI.


class SegmentFile:
    """A Parquet file in the making.

    Use as a context manager: leaving it without `finish` removes what was written. Any OSError of
    the file system comes out of the call that met it; the file appears under its final name only
    when all of it is on disk.
    """

    def __init__(
        self, table: Table, target: Path, rows_hint: int, *, records: bool = False
    ) -> None:
        """Create the dot-file beside `target`, replacing a stale one.

        Args:
            table: the declaration; stored in the footer as ``droptape.table``.
            target: the final name.
            rows_hint: rows expected, sizes the Bloom filters.
            records: the rows were records of the kernel (`Table.record_schema`).
        """
        self.table = table
        self.target = target
        self.rows = 0
        self._schema = table.record_schema if records else table.arrow_schema
        self._first: int | None = None
        self._last: int | None = None
        self._aside = target.with_name(f".{target.name}")
        self._file = _HashingFile(self._aside)
        try:
            self._writer = _writer(table, self._schema, self._file, rows_hint)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> SegmentFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._discard()

    def write(self, rows: pa.Table) -> None:
        """Write `rows` (`table.arrow_schema`) as one row group per `ROW_GROUP` rows."""
        declared = pa.Table.from_arrays(rows.columns, schema=self._schema)
        self._writer.write_table(declared, row_group_size=ROW_GROUP)
        self.rows += rows.num_rows
        if "ts_ns" in rows.column_names and rows.num_rows:
            times = rows["ts_ns"].to_numpy()
            first, last = int(times.min()), int(times.max())
            self._first = first if self._first is None else min(self._first, first)
            self._last = last if self._last is None else max(self._last, last)

    def finish(self, rollup: str | None = None) -> Segment:
        """Complete the file, make it durable under its final name, and describe it.

        Args:
            rollup: for its footer (droptape.format.rollup).
        """
        if rollup is not None:
            self._writer.add_key_value_metadata({KEY.decode(): rollup})
        self._writer.close()
        self._file.sync()
        size = self._file.close()
        # The last guard against a file that only looks written.
        with open_regular(self._aside) as file:
            if pq.read_metadata(file).num_rows != self.rows:
                raise OSError(f"{self._aside} was not written whole")
        self._aside.replace(self.target)
        sync_folder(self.target.parent)
        return Segment(
            table=self.table.name,
            file=f"{self.target.parent.name}/{self.target.name}",
            rows=self.rows,
            first_ns=self._first,
            last_ns=self._last,
            bytes=size,
            sha256=self._file.sha256.hexdigest(),
        )

    def _discard(self) -> None:
        """Drop what was not renamed; harmless after `finish`."""
        self._file.failed = True
        writer = getattr(self, "_writer", None)
        if writer is not None and writer.is_open:
            with contextlib.suppress(OSError, pa.ArrowException):
                writer.close()
        self._file.close()
        self._aside.unlink(missing_ok=True)


def describe(path: Path) -> Segment:
    """Describe a sealed file that no manifest knows.

    Raises:
        FormatError: it is damaged or gone, or of another table than its folder.
        OSError: it cannot be read now.
    """
    with (
        _damage_told(path),
        open_regular(path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True) as file,
    ):
        # First: asked for the statistics in a damaged footer, pyarrow may end the process.
        for group in range(file.num_row_groups):
            for column in file.schema_arrow.names:  # one after the other: all take 40 MB
                file.read_row_group(group, [column])
        found = file.metadata
        declared = json.loads((found.metadata or {}).get(b"droptape.table", b"{}"))
        groups = [found.row_group(i) for i in range(found.num_row_groups)]
        at = found.schema.names.index("ts_ns") if "ts_ns" in found.schema.names else -1
        found_times = [g.column(at).statistics for g in groups] if at >= 0 else []
        times = [t for t in found_times if t is not None]  # without rows there are none
    if declared.get("name", path.parent.name) != path.parent.name:
        raise FormatError(f"{path} is a file of the table {declared['name']}")
    return Segment(
        table=path.parent.name,
        file=f"{path.parent.name}/{path.name}",
        rows=found.num_rows,
        first_ns=min((t.min for t in times), default=None),
        last_ns=max((t.max for t in times), default=None),
        bytes=path.stat().st_size,
        sha256=sha256(path),
    )


def read_rows(path: Path, table: Table) -> pa.Table:
    """Read a sealed file: the columns of `table`, text as text and not as numbers for it.

    Raises:
        FormatError: it is damaged or gone.
        OSError: it cannot be read now.
    """
    with _damage_told(path), open_regular(path) as file:
        rows = pq.read_table(file, page_checksum_verification=True)
        return rows.cast(_plain(table.arrow_schema))


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raise FormatError where this block finds `path` gone or damaged, by what pyarrow raises."""
    try:
        yield
    except FileNotFoundError as exc:
        raise FormatError(f"{path} is gone") from exc
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        # Of damage pyarrow says OSError too, without a number of the kernel's.
        why = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise FormatError(f"{path} is damaged: {why}") from exc


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [
            f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f
            for f in (schema.field(i) for i in range(len(schema)))
        ]
    )


class _HashingFile:
    """The file object that pyarrow writes to.

    pyarrow's own file forgets a full disk; this one raises it, and hashes what it writes.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o640)
        self._size = 0
        self.sha256 = hashlib.sha256()
        self.failed = False
        self.closed = False

    def write(self, data: bytes) -> int:
        if self.failed:
            return len(data)
        try:
            write_all(self._fd, data)
        except OSError:
            self.failed = True
            raise
        self.sha256.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Do nothing, as pyarrow asks: nothing is buffered here."""

    def sync(self) -> None:
        if self.failed or os.fstat(self._fd).st_size != self._size:
            raise OSError("a write to the segment failed")
        os.fsync(self._fd)

    def close(self) -> int:
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            os.close(descriptor)
        return self._size


def _writer(
    table: Table, schema: pa.Schema, file: _HashingFile, rows_hint: int
) -> pq.ParquetWriter:
    delta = {"ts_ns"} if any(c.type is MONO for c in table) else set()
    plain = {c.name for c in table if c.name in _PLAIN}
    ndv = max(64, min(rows_hint, _BLOOM_MAX_NDV))
    blooms = {c.name: {"ndv": ndv, "fpp": _BLOOM_FPP} for c in table if c.type is ADDRESS}
    writer = pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[n for n in schema.names if n not in delta | plain],
        column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED") | dict.fromkeys(plain, "PLAIN"),
        # Extremes of text and addresses prune nothing here and cost a sixth of the time.
        write_statistics=[f.name for f in schema if pa.types.is_integer(f.type)],
        # One page per column where it fits: half the calls of the compressor.
        max_rows_per_page=ROW_GROUP,
        write_batch_size=ROW_GROUP,
        write_page_checksum=True,
        bloom_filter_options=blooms or None,
        store_schema=False,
    )
    writer.add_key_value_metadata(_footer(table, schema))
    return writer


def _footer(table: Table, schema: pa.Schema) -> dict[str, str]:
    """Metadata of the file.

    ``ARROW:schema`` carries the docs and units of the columns to Arrow's readers. It is written
    here, and not by pyarrow, so that it names plain strings: the dictionary type is how the
    recorder holds text in memory, and would make categories of every text column.
    """
    plain = _plain(schema)
    return {
        "droptape.table": json.dumps(table.to_json()),
        "ARROW:schema": base64.b64encode(plain.serialize().to_pybytes()).decode(),
    }
