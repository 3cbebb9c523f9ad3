"""A dataset in Spark: its views, and answers as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from droptape.analyze import causes
from droptape.analyze.dataset.origin import Dataset
from droptape.analyze.dataset.store import FolderStore
from droptape.analyze.dataset.views import PARTITIONS, create
from droptape.analyze.errors import QueryError
from droptape.analyze.times import Window

from .dialect import created, transpile, view_name
from .session import start

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TYPES = {
    "BIGINT": "bigint", "INTEGER": "int", "SMALLINT": "smallint", "DOUBLE": "double",
    "BOOLEAN": "boolean", "VARCHAR": "string",
}  # fmt: skip
_REMOTE = "s3a://"


class Spark:
    """The views of a dataset in two sessions of one Spark application.

    In the one for this package instants are BIGINT (ns), so that its answers are exact; in the one
    for users they are TIMESTAMP.
    """

    def __init__(
        self,
        dataset: Dataset,
        window: Window | None,
        duck: duckdb.DuckDBPyConnection,
        master: str | None,
    ) -> None:
        """Start Spark and make the views; QueryError when that fails.

        Args:
            dataset: what is asked.
            window: the rows that are asked.
            duck: the same views in DuckDB, asked for the types of answers only.
            master: of the cluster, as Spark writes it.
        """
        self._duck = duck
        session = start(master)
        self._exact = _Views(session, dataset, exact=True)
        self._users = _Views(session, dataset, exact=False)
        for views in (self._exact, self._users):
            create(views, dataset.entries, window, dataset.present)

    def ask(self, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Run SQL of this package; the answer has the types that DuckDB gives.

        Raises:
            QueryError: Spark cannot do it.
        """
        return self._answer(self._exact, query, params)

    def query(self, query: str) -> pa.Table:
        """Run SQL of a user, which DuckDB has found to be one reading SELECT.

        Raises:
            QueryError: Spark cannot do it, or reads something else than the dataset.
        """
        return self._answer(self._users, query, None)

    def execute(self, statement: str) -> None:
        """Run a CREATE TEMP TABLE AS of this package; its rows are kept while they are used."""
        name, query = created(statement)
        self._duck.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM ({query}) LIMIT 0"
        )
        with _explained():
            self._exact.sql(query).cache().createOrReplaceTempView(name)

    @contextmanager
    def holding(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Give a small table a name as long as the ``with`` lasts."""
        with _explained():
            session = self._exact.session
            _frame(session, rows).createOrReplaceTempView(name)
            try:
                yield
            finally:
                session.catalog.dropTempView(name)

    def _answer(self, views: _Views, query: str, params: Mapping[str, Any] | None) -> pa.Table:
        schema = self._schema(query, params)
        with _explained():
            found = views.sql(query, params).toArrow()
        return pa.table(
            [
                _cast(column, field.type)
                for column, field in zip(found.columns, schema, strict=True)
            ],
            schema=schema,
        ).combine_chunks()

    def _schema(self, query: str, params: Mapping[str, Any] | None) -> pa.Schema:
        asked = self._duck.sql(f"SELECT * FROM ({query}) LIMIT 0", params=params or None)
        return pa.schema(
            [
                # A sum: Spark's fits into 64 bits as well, and is an integer.
                f.with_type(pa.int64()) if pa.types.is_decimal(f.type) and not f.type.scale else f
                for f in asked.to_arrow_table().schema
            ]
        )


class _Views:
    """The views in a session of their own, each made when it is first asked.

    Attributes:
        session: Spark's.
    """

    def __init__(self, session: SparkSession, dataset: Dataset, *, exact: bool) -> None:
        self.session = session.newSession()
        parts = "spark.sql.shuffle.partitions"
        self.session.conf.set(parts, session.conf.get(parts) or "2")
        self._dataset = dataset
        self._exact = exact
        self._pending: dict[str, Callable[[], DataFrame]] = {}

    def sql(self, query: str, params: Mapping[str, Any] | None = None) -> DataFrame:
        """Return the rows of a query in DuckDB's dialect."""
        text, tables = transpile(query, params, exact=self._exact)
        for table in tables:
            make = self._pending.pop(table, None)
            if make is not None:
                make().createOrReplaceTempView(table)
        return self.session.sql(text)

    def scan(self, scanned: str, files: list[str], columns: list[tuple[str, str]]) -> None:
        """See `droptape.analyze.dataset.views.Engine.scan`."""
        self._pending[view_name("stored", scanned)] = lambda: self._read(files, columns)

    def execute(self, query: str) -> None:
        """See `droptape.analyze.dataset.views.Engine.execute`."""
        name, select = created(query)
        if name.removeprefix("raw_") != causes.NAME:  # a pass over each flow, for one machine
            self._pending[name] = lambda: self.sql(select)

    def _read(self, files: list[str], columns: list[tuple[str, str]]) -> DataFrame:
        store = self._dataset.store
        here = isinstance(store, FolderStore)
        paths = [store.full(p) if here else _REMOTE + store.arrow(p)[1] for p in files]
        table = files[0].partition("/")[0]
        base = f"{paths[0].removesuffix(files[0])}{table}"
        stored = [*columns, *((partition, "VARCHAR") for partition in PARTITIONS)]
        schema = ", ".join(f"`{column}` {_TYPES[kind]}" for column, kind in stored)
        return self.session.read.schema(schema).option("basePath", base).parquet(*paths)


def _frame(session: SparkSession, rows: pa.Table) -> DataFrame:
    return session.createDataFrame(rows)


def _cast(column: pa.ChunkedArray[Any], kind: pa.DataType) -> pa.ChunkedArray[Any]:
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64()).cast(pa.timestamp("us"))
    return column.cast(kind, safe=False)


@contextmanager
def _explained() -> Iterator[None]:
    """Make one line of Spark's errors."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise QueryError(f"Spark: {lines[0] if lines else type(exc).__name__}") from exc
