"""The Typer application: every module in `commands` is one command."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from . import commands

app = typer.Typer(
    name="droptape",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask recordings of dropped, retransmitted and refused packets, made by droptape-record.",
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"droptape {version('droptape')}")
        except PackageNotFoundError:
            print("droptape (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del show_version


def _order(name: str) -> tuple[int, str]:
    first = (
        "info",
        "summary",
        "diagnose",
        "query",
        "shell",
        "top",
        "timeline",
        "symbolize",
        "verify",
    )
    return (first.index(name) if name in first else len(first), name)


for _name in sorted((m.name for m in pkgutil.iter_modules(commands.__path__)), key=_order):
    if not _name.startswith("_"):
        _module = importlib.import_module(f"{commands.__name__}.{_name}")
        app.command(_name.rstrip("_"))(getattr(_module, _name))
