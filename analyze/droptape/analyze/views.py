"""The views of opened recordings, made from the declarations that the recordings carry.

For recording number *i* there is a schema ``r<i>`` with the stored columns of its tables and the
dictionaries that explain them. The views over all recordings are in ``main``; the same views with
addresses left as 16 bytes are in ``raw``, for grouping and comparing without making text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from droptape.format.schema import Column, Table
from droptape.format.tables import TABLES
from droptape.format.types import ADDRESS, KSYM, ViewColumn

from .dated import Dated
from .dictionary import (
    LOCATIONS,
    Dictionaries,
    Dictionary,
    dictionary_schema,
    missing_columns,
)
from .engine import literal, name, sql_list
from .shape import empty, null
from .source import Source, StoredTable
from .sqlfiles import load
from .times import Window
from .window import narrowed

_NOWHERE = "SELECT NULL::BIGINT AS location WHERE false"
RECORDING = ViewColumn("recording", "", "VARCHAR", "short name of the recording")


@dataclass(frozen=True, slots=True)
class View:
    """A view that users see.

    Attributes:
        name: its name.
        doc: what a row is.
        columns: in order; `sql` is how the first recording makes them.
        table: the declaration (of the first recording), or None for a view of ours.
    """

    name: str
    doc: str
    columns: tuple[ViewColumn, ...]
    table: Table | None


def prepare(connection: duckdb.DuckDBPyConnection, sources: list[Source]) -> list[Dictionaries]:
    """Create the stored tables of all recordings; return their dictionaries."""
    connection.execute(load("addr_text", octets=_octets(""), dotted=_octets(".")))
    connection.execute(load("addr"))
    connection.execute("CREATE SCHEMA raw")
    for index, source in enumerate(sources):
        _create_stored(connection, f"r{index}", source)
        source.complete_from = _complete_from(connection, f"r{index}", source)
    return [Dictionaries(connection, f"r{index}", source) for index, source in enumerate(sources)]


def create(
    connection: duckdb.DuckDBPyConnection,
    sources: list[Source],
    dictionaries: list[Dictionaries],
    window: Window | None = None,
) -> dict[str, View]:
    """Create all views, of the rows in `window`; return those that users see, by name.

    Args:
        connection: where `prepare` was called.
        sources: the recordings.
        dictionaries: what it returned.
        window: the span of time.
    """
    views: dict[str, View] = {}
    for table in _all_tables(sources):
        having = [(i, s, s.tables[table].table) for i, s in enumerate(sources) if table in s.tables]
        for schema in ("raw", "main"):
            parts = [
                select_rows(
                    dictionaries[i],
                    f"r{i}",
                    s.name,
                    s.tables[table],
                    schema == "raw",
                    part_of(s, window),
                )
                for i, s, _ in having
            ]
            connection.execute(
                f"CREATE VIEW {schema}.{name(table)} AS " + " UNION ALL BY NAME ".join(parts)
            )
        views[table] = _describe(table, [declared for _, _, declared in having])
    return views


def _octets(before: str) -> str:
    """Return a constant list of the 256 octets as text, each with `before` in front.

    Not as a list of 256 constants: DuckDB looks at each of them wherever the macro is used.
    """
    texts = " ".join(f"{before}{number}" for number in range(256))
    return f"string_split({literal(texts)}, ' ')"


def _complete_from(
    connection: duckdb.DuckDBPyConnection, schema: str, source: Source
) -> int | None:
    """Return from when on a recording with a disk budget misses nothing, UTC in ns.

    Totals are of whole intervals, so it is the end of the first one after what was removed.
    """
    removed = source.removed_until
    if removed is None or "totals" not in source.tables:
        return removed
    sql = f"SELECT min(ts_ns) FROM {schema}.totals WHERE ts_ns >= {removed}"
    ((found,),) = connection.sql(sql).fetchall()
    return removed if found is None else int(found)


def part_of(source: Source, window: Window | None) -> Window | None:
    """Return the part of `window` that a recording has all rows of."""
    if source.complete_from is None:
        return window
    start = source.complete_from + 1
    if window is None:
        return Window(start)
    return Window(start if window.start is None else max(start, window.start), window.end)


def _all_tables(sources: Iterable[Source]) -> list[str]:
    return list(dict.fromkeys(table for source in sources for table in source.tables))


def _describe(table: str, declared: list[Table]) -> View:
    columns: dict[str, ViewColumn] = {}
    for declaration in declared:
        for column, view in named_columns(declaration):
            del column
            columns.setdefault(view.name, view)
    return View(table, declared[0].doc, (*columns.values(), RECORDING), declared[0])


def named_columns(table: Table) -> list[tuple[Column, ViewColumn]]:
    """Pair each declared column with its view columns; a name used twice gets a prefix."""
    out: list[tuple[Column, ViewColumn]] = []
    used = {"recording"}
    for column in table:
        for view in column.type.view:
            text = view.name.format(name=column.name)
            if text in used:
                text = f"{column.name}_{text}"
            used.add(text)
            sql = view.sql.format(name=column.name)
            out.append((column, ViewColumn(text, sql, view.type, view.doc or column.doc)))
    return out


def select_rows(
    known: Dictionaries,
    schema: str,
    recording: str,
    stored: StoredTable,
    raw: bool,
    window: Window | None,
) -> str:
    """Return the SELECT of one recording's rows.

    A dictionary costs nothing in a query that does not use it: a small one is constants that are
    looked up, and DuckDB (2.0) removes an unused join on a GROUP BY, but only the last of several.
    The view's columns are made directly from ``read_parquet``: with a subquery between, DuckDB
    would not prune row groups by ``ts``.
    """
    table = stored.table
    columns, joins = select_columns(known, table, raw=raw, only_ip=stored.only_ip)
    picked = ", ".join((*columns, f"{literal(recording)} AS recording"))
    sets, condition = narrowed(
        table, f"{schema}.{name(table.name)}", row_sets(schema, stored), window
    )
    return " UNION ALL BY NAME ".join(
        f"SELECT {picked} FROM {rows} AS t {joins} {condition}" for rows in sets
    )


def select_columns(
    known: Dictionaries, table: Table, *, raw: bool, only_ip: bool
) -> tuple[list[str], str]:
    """Return what makes the view's columns of a stored table ``t``, and the joins for it."""
    timed = "ts_ns" in table.arrow_schema.names
    dictionaries = {
        column.name: known.read(column.type.join, timed=timed)
        for column in table
        if column.type.join is not None
    }
    columns: list[str] = []
    for column, view in named_columns(table):
        sql = _address(table, column, raw, only_ip) if column.type is ADDRESS else view.sql
        dictionary = dictionaries.get(column.name)
        if dictionary is not None:
            sql = _looked_up(sql, column.name, dictionary)
        columns.append(f"{sql} AS {name(view.name)}")
    return columns, " ".join(d.join(c) for c, d in dictionaries.items() if not d.small)


def _looked_up(sql: str, column: str, dictionary: Dictionary | Dated) -> str:
    """Replace what `sql` takes from the dictionary of `column` by how that is looked up."""
    return re.sub(
        rf'\bd_{re.escape(column)}\."?(\w+)"?',
        lambda found: dictionary.lookup(column, found[1]),
        sql,
    )


def _address(table: Table, column: Column, raw: bool, only_ip: bool) -> str:
    """An address is unknown where the packet is not IP; `::` elsewhere is the address `::`.

    DuckDB hands a condition on to Parquet only where it is on one column, so the other is asked
    only where there are such packets.
    """
    stored = f"t.{name(column.name)}"
    text = stored if raw else f"addr_text({stored})"
    if not only_ip and any(other.name == "ip_version" for other in table):
        return f"CASE WHEN t.ip_version IS NOT NULL THEN {text} END"
    return text


def _create_stored(connection: duckdb.DuckDBPyConnection, schema: str, source: Source) -> None:
    """Create the stored tables of one recording, and the dictionaries that its types join."""
    connection.execute(f"CREATE SCHEMA {schema}")
    for table, stored in source.tables.items():
        for number, journal in enumerate(stored.journals):
            copy(connection, f"{schema}.{name(_journal(stored, number))}", journal)
        rows = " UNION ALL BY NAME ".join(f"SELECT * FROM {r}" for r in row_sets(schema, stored))
        connection.execute(f"CREATE VIEW {schema}.{name(table)} AS {rows}")
    joins = {c.type.join for s in source.tables.values() for c in s.table if c.type.join}
    for join in {*joins, KSYM.join}:
        assert join is not None
        if join.dictionary == LOCATIONS:
            sql = _locations(schema, source)
        elif join.dictionary in source.tables:
            absent = "".join(f", {null(field)}" for field in missing_columns(source, join))
            sql = f"SELECT *{absent} FROM {schema}.{name(join.dictionary)}"
        else:
            sql = empty(dictionary_schema(source, join))
        connection.execute(f"CREATE TABLE {schema}.d_{join.dictionary} AS {sql}")


def _locations(schema: str, source: Source) -> str:
    """Return the query that names the code addresses of one recording (KASLR: never another's)."""
    occurring = [
        f"SELECT {name(column.name)} AS location FROM {schema}.{name(table)}"
        for table, stored in source.tables.items()
        for column in stored.table
        if column.type.join is not None and column.type.join.dictionary == LOCATIONS
    ]
    if "symbols" in source.tables:
        symbols = f"{schema}.symbols"
    else:
        symbols = f"({empty(TABLES['symbols'].arrow_schema)})"
    return load("locations", occurring=" UNION ".join(occurring) or _NOWHERE, symbols=symbols)


def copy(connection: duckdb.DuckDBPyConnection, target: str, rows: pa.Table) -> None:
    """Create the table `target` with these rows."""
    connection.register("arriving", rows)
    connection.execute(f"CREATE TABLE {target} AS FROM arriving")
    connection.unregister("arriving")


def row_sets(schema: str, stored: StoredTable) -> list[str]:
    """Return what holds the rows of a table, sealed or not, each with every declared column."""
    declared = stored.table.arrow_schema
    sets = [f"{schema}.{name(_journal(stored, n))}" for n in range(len(stored.journal_files))]
    if not stored.sealed:
        return [*sets, f"({empty(declared)})"]
    present = set(stored.schemas[0])
    same = all(set(names) == present for names in stored.schemas)
    present = present.union(*stored.schemas)
    options = "" if same else ", union_by_name = true"
    files = f"read_parquet({sql_list(str(path) for path in stored.sealed)}{options})"
    missing = "".join(f", {null(field)}" for field in declared if field.name not in present)
    return [*sets, f"(SELECT *{missing} FROM {files})" if missing else files]


def _journal(stored: StoredTable, number: int) -> str:
    return f"journal_{stored.table.name}_{number}"
