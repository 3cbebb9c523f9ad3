"""The SQL prompt: reading, completing, and answering through a worker process."""

from __future__ import annotations

import difflib
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from droptape.format.errors import DroptapeError

from . import interrupt
from .client import Client
from .errors import QueryError
from .output import Format, write
from .plain import aligned, printable
from .saying import say

_KEYWORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "ORDER",
    "LIMIT",
    "HAVING",
    "JOIN",
    "LEFT",
    "ON",
    "AS",
    "WITH",
    "DISTINCT",
    "COUNT",
    "SUM",
    "MIN",
    "MAX",
    "AVG",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "DESC",
    "PIVOT",
    "SUMMARIZE",
    "DESCRIBE",
    "EXPLAIN",
    "time_bucket",
    "date_trunc",
    "epoch_ns",
    "addr_text",
    "INTERVAL",
    "TIMESTAMP",
]
_COMMANDS = ("\\tables", "\\d", "\\q", "\\help")
_HELP = "\\tables  list tables\n\\d TABLE  its columns\n\\q       leave\nA query ends with ;"


class Prompt:
    """An interactive session; a query that is stopped costs the worker, which is started again."""

    def __init__(self, paths: list[str], hosts: list[str] | None = None) -> None:
        self._paths = paths
        self._hosts = hosts or []
        self._client = Client(paths, hosts=self._hosts)
        self._words = self._completions()
        self._history = self._readline()

    def run(self) -> None:
        """Answer until the end of the input."""
        for problem in self._client.problems:
            say(f"warning: {problem}")
        if sys.stdin.isatty():
            print(f"tables: {', '.join(self._client.tables)}\n{_HELP}")
        lines: list[str] = []
        while True:
            try:
                line = input(
                    ("droptape> " if not lines else "     ...> ") if sys.stdin.isatty() else ""
                )
            except EOFError:
                break
            except KeyboardInterrupt:
                interrupt.forget()
                print()
                lines = []
                continue
            if not lines and line.strip().startswith("\\"):
                if line.strip() == "\\q":
                    return
                self._command(line.strip())
                continue
            lines.append(line)
            if line.rstrip().endswith(";") or (not line.strip() and "".join(lines).strip()):
                self._query("\n".join(lines))
                lines = []
            elif not line.strip():
                lines = []
        if "".join(lines).strip():
            self._query("\n".join(lines))

    def _query(self, sql: str) -> None:
        interrupt.forget()
        try:
            with self._client.ask(sql) as reader:
                write(reader, Format.TABLE, None)
        except DroptapeError as exc:
            print(f"error: {printable(str(exc))}")
        except KeyboardInterrupt:
            interrupt.forget()
            print("stopped")
            self._client.close()
            self._client = Client(self._paths, hosts=self._hosts)

    def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        try:
            if word in ("\\tables", "\\dt") or (word == "\\d" and not rest.strip()):
                tables = self._client.tables
                self._print(
                    ["table", "a row is"], [list(tables), [t["doc"] for t in tables.values()]]
                )
            elif word == "\\d":
                self._describe(rest.strip().strip('"'))
            else:
                print(_HELP)
        except DroptapeError as exc:
            print(f"error: {printable(str(exc))}")

    def _describe(self, table: str) -> None:
        if table not in self._client.tables:
            near = difflib.get_close_matches(table, self._client.tables, 1)
            raise QueryError(
                f"there is no table {table}{f'; did you mean {near[0]}?' if near else ''}"
            )
        columns = self._client.tables[table]["columns"]
        self._print(["column", "type", "meaning"], [[c[i] for c in columns] for i in range(3)])

    @staticmethod
    def _print(names: list[str], columns: list[list[str]]) -> None:
        for line in aligned(names, columns, [False] * len(names), markdown=False):
            print(line)

    # --- line editing -------------------------------------------------------------------------

    def _completions(self) -> list[str]:
        tables = self._client.tables
        columns = {column[0] for table in tables.values() for column in table["columns"]}
        return sorted({*tables, *columns, *_KEYWORDS, *_COMMANDS})

    def _complete(self, text: str, state: int) -> str | None:
        matches = [word for word in self._words if word.lower().startswith(text.lower())]
        return matches[state] if state < len(matches) else None

    def _readline(self) -> Path | None:
        if not sys.stdin.isatty():
            return None
        try:
            import readline
        except ImportError:
            return None
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        history = state / "droptape" / "history"
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n,()=<>;'")
        readline.parse_and_bind("tab: complete")
        readline.set_history_length(1000)
        try:
            history.parent.mkdir(parents=True, exist_ok=True)
            if history.exists():
                readline.read_history_file(history)
        except OSError:
            return None
        return history

    def __enter__(self) -> Prompt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        if self._history is not None:
            import readline

            with suppress(OSError):  # a history is a convenience
                readline.write_history_file(self._history)
