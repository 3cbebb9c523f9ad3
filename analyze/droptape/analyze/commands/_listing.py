"""What the commands share: arguments, and writing an answer in the format that was asked for."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import duckdb
import pyarrow as pa
import typer
from rich.console import Console

from droptape.analyze import interrupt
from droptape.analyze.database import EngineName
from droptape.analyze.errors import OutputClosed, QueryError
from droptape.analyze.opening import open_recording
from droptape.analyze.output import Format, write, write_json
from droptape.analyze.recording import Recording
from droptape.analyze.saying import say
from droptape.analyze.targets import destination, refuse_source

Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="REC...", help="Folders of recordings, or globs; or a dataset.", show_default=False
    ),
]
Hosts = Annotated[
    str | None,
    typer.Option(
        "--hosts", metavar="NAMES", help="Of a dataset, only these: names or globs, with commas."
    ),
]
By = Annotated[str, typer.Option("--by", metavar="COLUMNS")]
TableOption = Annotated[
    str | None, typer.Option("--table", metavar="TABLE", help="Ask this table only.")
]
Benign = Annotated[
    bool, typer.Option("--include-benign", help="Also count drops that healthy systems have.")
]
_TIME = "UTC, +30s (since the start), -10s (before the end), or mark:TEXT."
From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help=f"Only from this time on: {_TIME}")
]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Only before this time, as --from.")
]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="How to write the answer.", show_default=True)
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all."),
]


class Engine(str, Enum):
    """What runs the queries."""

    DUCKDB = "duckdb"
    SPARK = "spark"


EngineOption = Annotated[
    Engine,
    typer.Option("--engine", help="What runs the queries; Spark takes a dataset."),
]
Master = Annotated[
    str | None,
    typer.Option(
        "--master", metavar="URL", help="Spark's: spark://HOST:PORT; this machine without one."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory before DuckDB spills to disk, as 2GB."),
]
_NAMES: dict[Engine, EngineName] = {Engine.DUCKDB: "duckdb", Engine.SPARK: "spark"}
_OUTPUT: ContextVar[Path | None] = ContextVar("output", default=None)
"""Where the answer of the command goes that is at work; no recording that it opens may be there."""
P = ParamSpec("P")
_WIDE = 160
"""Columns when the output is no terminal: nothing is cut off that a later reader might need."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found.

    Attributes:
        rows: for every format.
        show: prints it for people, instead of a table of `rows`.
        json: what ``--format json`` writes, instead of `rows`.
        code: exit code of the command.
    """

    rows: pa.Table | pa.RecordBatchReader
    show: Callable[[Console], None] | None = None
    json: Any = None
    code: int = 0


def warn(problems: list[str]) -> None:
    """Say on standard error which files could not be read."""
    for problem in problems:
        say(f"warning: {problem}")


@contextmanager
def opened(
    paths: list[str],
    start: str | None = None,
    end: str | None = None,
    hosts: str | None = None,
    engine: Engine = Engine.DUCKDB,
    master: str | None = None,
    memory: str | None = None,
) -> Iterator[Recording]:
    """Open recordings for a command: warn of what cannot be read, make errors readable.

    Args:
        paths: folders of recordings, or globs; or a dataset.
        start: what ``--from`` says.
        end: what ``--to`` says.
        hosts: what ``--hosts`` says.
        engine: what ``--engine`` says.
        master: what ``--master`` says.
        memory: what ``--memory`` says.
    """
    if memory is not None and engine is not Engine.DUCKDB:
        raise QueryError("--memory is for DuckDB; Spark has its own settings")
    if master is not None and engine is Engine.DUCKDB:
        raise QueryError("--master goes with --engine spark")
    with open_recording(
        *paths, start=start, end=end, hosts=names(hosts), engine=_NAMES[engine], master=master,
        memory_limit=memory,
    ) as rec:  # fmt: skip
        interrupt.stop()
        refuse_source(_OUTPUT.get(), [source.bundle for source in rec.sources])
        warn([str(problem) for problem in rec.problems])
        try:
            yield rec
        except duckdb.Error as exc:
            raise rec.explain(exc) from exc


def names(text: str | None) -> list[str]:
    """Return the names in an option that takes several, with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def deliver(answer: Answer, form: Format, output: Path | None) -> None:
    """Write `answer` in `form`; OutputClosed when nobody reads any more."""
    try:
        _deliver(answer, form, output)
    except (BrokenPipeError, OutputClosed) as exc:
        raise OutputClosed(answer.code) from exc


def _deliver(answer: Answer, form: Format, output: Path | None) -> None:
    if form is Format.TABLE and answer.show is not None:
        with destination(output) as out:
            terminal = output is None and sys.stdout.isatty()
            answer.show(Console(file=out, width=None if terminal else _WIDE, highlight=False))
    elif form is Format.JSON and answer.json is not None:
        write_json(answer.json, output)
    else:
        rows = answer.rows
        write(rows.to_reader() if isinstance(rows, pa.Table) else rows, form, output)


def listing(command: Callable[P, Answer]) -> Callable[P, None]:
    """Give a command that returns an `Answer` the options ``--format`` and ``-o``."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        form, output = kwargs.pop("format"), kwargs.pop("output")
        target = Path(str(output)) if output else None
        token = _OUTPUT.set(target)
        try:
            answer = command(*args, **kwargs)
        finally:
            _OUTPUT.reset(token)
        deliver(answer, Format(form), target)
        if answer.code:
            raise typer.Exit(answer.code)

    added = {"format": (FormatOption, Format.TABLE), "output": (OutputOption, None)}
    _show(run, _parameters(command) + _options(added), None)
    return run


_ASKING = {
    "start": (From, None),
    "end": (To, None),
    "hosts": (Hosts, None),
    "engine": (EngineOption, Engine.DUCKDB),
    "master": (Master, None),
    "memory": (Memory, None),
}


def asking(command: Callable[Concatenate[Recording, P], Answer]) -> Callable[..., Answer]:
    """Give a command what it needs to ask recordings or a dataset on any engine.

    Its first argument, the opened recording, becomes the arguments and options that say which one;
    one called `recordings` gets what the user said.
    """
    own = _parameters(command)[1:]
    named = any(p.name == "recordings" for p in own)

    @functools.wraps(command)
    def run(recordings: list[str], *args: P.args, **kwargs: P.kwargs) -> Answer:
        asked: dict[str, Any] = {name: kwargs.pop(name) for name in _ASKING}
        if named:
            kwargs["recordings"] = recordings
        with opened(recordings, **asked) as rec:
            return command(rec, *args, **kwargs)

    which = inspect.Parameter(
        "recordings", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Recordings
    )
    own = [p for p in own if p.name != "recordings"]
    _show(run, [which, *own, *_options(_ASKING)], Answer)
    return run


def _parameters(command: Callable[..., Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    return [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]


def _options(added: dict[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in added.items()
    ]


def _show(
    run: Callable[..., Any], parameters: list[inspect.Parameter], returned: type[Answer] | None
) -> None:
    """Have Typer and other decorators see these parameters."""
    shown = inspect.Signature(parameters, return_annotation=returned)
    setattr(run, "__signature__", shown)  # noqa: B010 (a function has no such attribute to mypy)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # type: ignore[attr-defined]
