"""Writes docs/FORMAT.md from the declarations: ``python -m droptape.bpf.document``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from textwrap import dedent

from droptape.format import journal, layout, rollup, tables
from droptape.format.manifest import FORMAT_VERSION
from droptape.format.schema import Column, Table
from droptape.format.types import TYPES

from .kinds import all_kinds

_HEAD = f"""\
# The recording format, version {FORMAT_VERSION}

Generated from the declarations by `make docs`; do not edit. Event kinds are declared in
`bpf/droptape/bpf/kinds/`, the other tables in `bpf/droptape/format/tables.py`.

A recording is a folder of plain Parquet files. Every engine can read them:

```sql
SELECT reason, sum(weight) FROM 'rec/drops/*.parquet' GROUP BY reason ORDER BY 2 DESC;
```

`droptape` presents views of the same names. They show addresses as text, instants as timestamps,
and code addresses as functions; the tables below have both, the file's columns and the view's.

## Files
"""

_PARQUET = """
Sealed files are Parquet, zstd, with a CRC on every page. The footer's key-value metadata holds the
table's declaration as JSON under `droptape.table`, so a file explains itself without the manifest.
Files of events with 4,096 rows or more also have the counts below there.
Inside a row group rows are sorted so that equal values meet, not by time: use `ORDER BY ts`.

Integers are signed, because not every engine has unsigned ones; an address of 64 bits keeps its
bits. Null means unknown or not applicable; in files that were journals a column that can have none
is declared so (`required`), and a table's other files leave it open. Addresses of packets that
are not IP are zero bytes here, and null in the views.

`recording.json`, the manifest, says what was recorded, on which host and kernel, from when to when,
by which probes and why others are missing, which segments there are with rows, time range and
SHA-256, and what was lost. `removed` says by table what went to keep a disk budget, oldest first:
how many files and rows, and of which time; only what is younger than all of it is complete.
`damaged` says by file what could not be read of it, or was left out of a bundle. The manifest also
holds the declaration of every table, in the form the programs work from. Its last line is the
SHA-256 of all before that line; whoever changes it by hand removes the line.
"""


def _prose(docstring: str | None) -> str:
    """Return a module's docstring without its first line, as Markdown."""
    body = dedent(docstring or "").split("\n", 2)[2]
    return body.replace("::\n", ":\n").removeprefix(":\n\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _file_columns(table: Table) -> Iterable[str]:
    for field in table.arrow_schema:
        meta = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        kind = "string" if str(field.type).startswith("dictionary") else str(field.type)
        yield f"| `{field.name}` | {kind} | {meta.get('unit', '')} | {_cell(meta.get('doc', ''))} |"


def _values(columns: Iterable[Column]) -> Iterable[str]:
    for column in columns:
        if column.enum is None:
            continue
        if column.enum.kernel:
            yield f"- `{column.name}`: names of the kernel's `enum {column.enum.kernel}`"
        else:
            yield f"- `{column.name}`: " + ", ".join(f"`{v}`" for v in column.enum.values.values())


def _section(table: Table) -> str:
    lines = [f"### {table.name}", "", table.doc, ""]
    lines += ["| file column | type | unit | meaning |", "|---|---|---|---|"]
    lines += _file_columns(table)
    stored = {field.name for field in table.arrow_schema}
    extra = [view for view in table.view_columns() if view.name not in stored]
    if extra:
        lines += ["", "Only in the view:", ""]
        lines += [f"- `{v.name}` ({v.type}): {v.doc}" for v in extra]
    values = list(_values(table))
    if values:
        lines += ["", "Values:", "", *values]
    return "\n".join(lines) + "\n"


def document() -> str:
    """Return docs/FORMAT.md."""
    parts = [_HEAD, _prose(layout.__doc__), _PARQUET, "\n## Counts in footers\n"]
    parts += [_prose(rollup.__doc__), "\n## Journals\n", _prose(journal.__doc__)]
    parts.append("\n## Event tables\n")
    parts += [_section(kind.table) for kind in all_kinds().values()]
    parts.append("## Other tables\n")
    parts += [_section(table) for table in tables.TABLES.values()]
    parts.append("## Column types\n")
    parts.append("| type | meaning |\n|---|---|")
    parts += [f"| `{t.name}` | {_cell(t.doc)} |" for t in TYPES.values()]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
