"""Write docs/CLI.md, the reference of both programs: ``python docs/reference.py > docs/CLI.md``.

Made from the same declarations as ``--help``, and laid out here, so that it depends neither on the
terminal nor on the versions of Python and Typer.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import typer.main

from droptape.analyze.app import app
from droptape.recorder.cli import parser

WIDTH = 80

HEAD = """\
# Command line reference

Generated from the programs' own help by `make docs`; do not edit. `--help` shows the same.

`droptape-record` records and needs root; `droptape` asks recordings and needs nothing. Errors that
a user can cause are one line on standard error, with exit code 2.

## Completion

```console
$ droptape --install-completion
$ cd ~/.local/share/bash-completion/completions
$ droptape-record --print-completion bash > droptape-record
$ droptape-record --print-completion fish > ~/.config/fish/completions/droptape-record.fish
$ droptape-record --print-completion zsh > ~/.zfunc/_droptape-record
```

The first finds out which shell calls it (bash, zsh, fish). For zsh, `~/.zfunc` has to be in `fpath`
before `compinit` runs, which the first command sees to as well.
"""


@dataclass(frozen=True)
class Item:
    """An argument or option: how it is written, and what it does."""

    written: str
    help: str


@dataclass(frozen=True)
class Command:
    """One command: its line, text, arguments, options, and examples that can be pasted."""

    name: str
    usage: str
    text: str
    arguments: tuple[Item, ...]
    options: tuple[Item, ...]
    examples: tuple[str, ...]


def commands() -> Iterator[Command]:
    """Yield the recorder, then the commands of `droptape` in the order of its help."""
    yield recorder()
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield analysis(f"droptape {name}", command)


def recorder() -> Command:
    """Describe droptape-record."""
    found = parser()
    options, arguments = [], []
    for action in found._actions:
        text = _plain(action.help or "").replace("%%", "%")
        if not action.option_strings:
            arguments.append(Item(str(action.metavar), text))
        elif not isinstance(action, argparse._HelpAction):
            metavar = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
            value = "" if action.nargs == 0 else " " + " ".join(str(m) for m in metavar)
            options.append(Item(", ".join(action.option_strings) + value, text))
    lines = (found.epilog or "").splitlines()
    examples = [re.split(r"\s{3,}", line.strip())[0] for line in lines if line.startswith("  ")]
    usage = f"{found.prog} [OPTIONS] [{arguments[0].written}]"
    return Command(
        found.prog, usage, found.description or "", tuple(arguments), tuple(options),
        tuple(examples),
    )  # fmt: skip


def analysis(name: str, command: Any) -> Command:
    """Describe a command of droptape."""
    arguments, options = [], []
    for param in command.params:
        if getattr(param, "hidden", False) or "--help" in param.opts:
            continue
        if param.opts[0].startswith("-"):
            options.append(_option(param))
        else:
            arguments.append(Item(param.metavar or param.name.upper(), _plain(param.help or "")))
    text = _plain_paragraphs(command.help or "")
    examples = [p.removeprefix("Example: ") for p in text if p.startswith("Example: ")]
    return Command(
        name, " ".join([name, "[OPTIONS]", *(a.written for a in arguments)]),
        "\n\n".join(p for p in text if not p.startswith("Example: ")),
        tuple(arguments), tuple(options), tuple(examples),
    )  # fmt: skip


def _option(param: Any) -> Item:
    default = param.default
    value = ""
    if not param.is_flag:
        choices = _choices(default)
        value = " " + (param.metavar or "|".join(choices) or param.name.upper())
    text = _plain(param.help or "")
    if isinstance(default, Enum):
        default = default.value
    if default not in (None, False, "", ()) and not param.is_flag:
        text = f"{text} [default: {default}]"
    if param.required:
        text = f"{text} [required]"
    names = sorted((*param.opts, *param.secondary_opts), key=len)
    return Item(", ".join(names) + value, text)


def _choices(default: object) -> Iterable[str]:
    return [str(one.value) for one in type(default)] if isinstance(default, Enum) else []


def _plain(text: str) -> str:
    """Take the markup off and join lines."""
    return " ".join(re.sub(r"\[/?(?:bold|dim|cyan)\]", "", text).split())


def _plain_paragraphs(text: str) -> list[str]:
    return [_plain(part) for part in re.split(r"\n\s*\n", text)]


def document() -> str:
    """Return all of docs/CLI.md."""
    return HEAD + "".join(_section(command) for command in commands())


def _section(command: Command) -> str:
    body = [f"Usage: {command.usage}"]
    body += ["", *(line for part in command.text.split("\n\n") for line in (*_wrapped(part), ""))]
    for title, items in (("Arguments", command.arguments), ("Options", command.options)):
        if items:
            body += [f"{title}:"]
            for item in items:
                body += ["  " + item.written, *_wrapped(item.help, "      ")]
            body += [""]
    examples = "\n".join(f"$ {example}" for example in command.examples)
    text = "\n".join(body).rstrip()
    return f"\n## {command.name}\n\n```text\n{text}\n```\n\n```console\n{examples}\n```\n"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


if __name__ == "__main__":
    print(document(), end="")
