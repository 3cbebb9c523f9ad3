"""`Database`: the tables of recordings as views, and what runs SQL on them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa

from . import addresses, damaged
from .dataset.origin import Dataset
from .engine import connect
from .errors import DroptapeError, QueryError
from .origin import Origin
from .source import Problem
from .statements import checked, explained
from .temporary import TemporaryFolder
from .times import Window

if TYPE_CHECKING:
    from .spark.engine import Spark
    from .views import View

Params = Sequence[Any] | Mapping[str, Any]
EngineName = Literal["duckdb", "spark"]
_ATTEMPTS = 5
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*[a-z%]+\s*", re.IGNORECASE | re.ASCII)
"""Of memory. DuckDB knows the units; it takes what is below 0 for no limit."""


@dataclass(frozen=True)
class Settings:
    """What queries run on, and with how much.

    Attributes:
        memory_limit: what queries may use before they spill, such as ``2GB``; None: half of it.
        threads: processors; None: all.
        temp_folder: where a private folder for spilled data is made; None: the system's.
        engine: what runs the queries.
        master: of the Spark cluster; None: SPARK_MASTER or this machine.
    """

    memory_limit: str | None = None
    threads: int | None = None
    temp_folder: str | os.PathLike[str] | None = None
    engine: EngineName = "duckdb"
    master: str | None = None


class Database:
    """The tables of `origin` in a span of time, on DuckDB here or on Spark.

    Attributes:
        connection: the DuckDB connection, which also has the answers of Spark.
        views: the tables and their columns, by name.
        left_out: files that could not be read although their manifests said so.
    """

    def __init__(self, origin: Origin, window: Window | None, settings: Settings) -> None:
        self.left_out: list[Problem] = []
        self.views: dict[str, View] = {}
        self._origin = origin
        self._spark: Spark | None = None
        self._temp = TemporaryFolder("droptape-", settings.temp_folder)
        try:
            try:
                self._connect_to_all(window, settings)
            except duckdb.Error:
                self.left_out = origin.leave_out()
                if not self.left_out:
                    raise
                self._connect(window, settings)
            if settings.engine == "spark":
                self._spark = _on_spark(origin, window, self.connection, settings.master)
        except duckdb.BinderException as exc:
            self._temp.cleanup()
            raise QueryError(
                f"recording.json does not fit the files beside it, one is damaged: {explained(exc)}"
            ) from exc
        except duckdb.Error as exc:
            self._temp.cleanup()
            raise self.explain(exc) from exc
        except DroptapeError:
            self._temp.cleanup()
            raise

    def _connect_to_all(self, window: Window | None, settings: Settings) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._connect(window, settings)
            except duckdb.Error:
                if not left or not self._origin.reread():
                    raise
            else:
                return

    def _connect(self, window: Window | None, settings: Settings) -> None:
        limit = settings.memory_limit
        amount = _AMOUNT.fullmatch(limit) if limit is not None else None
        wrong = QueryError(f"{limit!r} is no amount of memory: give it as 512MB or 2GB")
        if limit is not None and (amount is None or float(amount[1]) <= 0):
            raise wrong
        try:
            self.connection = connect(
                self._origin.files(), Path(self._temp.name),
                memory_limit=limit, threads=settings.threads,
            )  # fmt: skip
        except duckdb.ParserException as exc:
            raise wrong from exc
        self.views = self._origin.create(self.connection, window)

    @property
    def remote(self) -> bool:
        """Whether another engine than this process runs the queries."""
        return self._spark is not None

    def user_sql(self, query: str, params: Params | None = None) -> duckdb.DuckDBPyRelation:
        """Run SQL of a user, as `Recording.sql`."""
        try:
            text = checked(self.connection, query)
            if self._spark is not None:
                if params:
                    raise QueryError("Spark takes no parameters here: write the values")
                return self.connection.from_arrow(self._spark.query(text))
            return self._sql(text, params)
        except duckdb.Error as exc:
            raise self.explain(exc) from exc

    def _sql(self, text: str, params: Params | None) -> duckdb.DuckDBPyRelation:
        if self._origin.address == "BLOB":
            faster = addresses.narrowed(self.connection, text, params, self.views)
            if faster != text:
                with contextlib.suppress(duckdb.Error):  # the error of the user's own text is told
                    return self.connection.sql(faster, params=params)
        return self.connection.sql(text, params=params)

    def ask(self, query: str, params: Params | None = None) -> duckdb.DuckDBPyRelation:
        """Run a SELECT of this package, which is not checked, on the engine that was asked for."""
        if self._spark is None:
            return self.connection.sql(query, params=params)
        assert params is None or isinstance(params, Mapping)
        return self.connection.from_arrow(self._spark.ask(query, params))

    def make(self, statement: str) -> None:
        """Run a CREATE TEMP TABLE of this package."""
        if self._spark is None:
            self.connection.execute(statement)
        else:
            self._spark.execute(statement)

    @contextlib.contextmanager
    def holding(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Let SQL of this package read `rows` under a name as long as the ``with`` lasts."""
        with contextlib.ExitStack() as held:
            self.connection.register(name, rows)
            held.callback(self.connection.unregister, name)
            if self._spark is not None:
                held.enter_context(self._spark.holding(name, rows))
            yield

    def explain(self, exc: Exception) -> QueryError:
        """Make one readable line from an error that fetching a relation raised."""
        for source, path in damaged.gone(self._origin.sources):
            if str(path) in str(exc):
                return QueryError(f"{source.path} changed while it was read: ask again")
        if damaged.may_be_damage(exc):
            for problem in damaged.found(self._origin.sources):
                return QueryError(
                    f"{problem.path} is damaged: `droptape verify` has all such files"
                )
        return explained(exc, tables=tuple(self.views))

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        self.connection.close()
        self._temp.cleanup()


def _on_spark(
    origin: Origin, window: Window | None, connection: duckdb.DuckDBPyConnection, master: str | None
) -> Spark:
    if not isinstance(origin, Dataset):
        raise QueryError("Spark is asked about a dataset: droptape archive makes one")
    try:
        from .spark.engine import Spark
    except ImportError as exc:
        raise QueryError(f"{exc.name} is not installed: pip install 'droptape[fleet]'") from exc
    return Spark(origin, window, connection, master)
