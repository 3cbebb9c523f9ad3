"""docs/CLI.md is what the programs say, and every command says enough."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[3] / "docs"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "80",
       "NO_COLOR": "1", "TERM": "dumb"}  # fmt: skip


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


reference = load()
COMMANDS = {command.name: command for command in reference.commands()}


@cache
def helps() -> dict[str, str]:
    """Return what --help of every command prints, from one process."""
    code = """
import contextlib, io, json, sys
from droptape.analyze.cli import main as droptape
from droptape.recorder.cli import main as recorder
out = {}
for name in json.loads(sys.argv[1]):
    sys.argv = [*name.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        (droptape if name.split()[0] == "droptape" else recorder)()
    out[name] = text.getvalue()
print(json.dumps(out))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(["droptape", *COMMANDS])],
        capture_output=True, text=True, env=ENV, check=True, timeout=60,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_it_is_current() -> None:
    assert (DOCS / "CLI.md").read_text() == reference.document(), "run make docs"


def test_it_is_plain_and_narrow() -> None:
    text = (DOCS / "CLI.md").read_text()
    assert "\x1b" not in text
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            # What is written in one word cannot be broken.
            assert len(line) <= 80 or line.startswith(("  -", "Usage: ")), line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    command = COMMANDS[name]
    assert command.text.endswith((".", ")")), "what it does"
    assert command.examples, "an example"
    assert all(example.startswith(name) for example in command.examples)
    assert [item.written for item in command.arguments + command.options if not item.help] == []
    names = [item.written for item in command.options]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["droptape", *COMMANDS])
def test_help_fits_a_terminal_and_has_no_colours(name: str) -> None:
    text = helps()[name]
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    if name == "droptape":
        assert all(f" {c.split()[1]} " in text for c in COMMANDS if " " in c)
    else:
        program = name.split()[0]
        assert program in text.lower().split("example", 1)[1]


def test_every_option_of_the_help_is_in_the_reference() -> None:
    for name, command in COMMANDS.items():
        said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", helps()[name])) - {"--help"}
        known = {n for item in command.options for n in re.findall(r"--[a-z][a-z-]+", item.written)}
        assert known <= said
        # Examples and texts may name options of other commands.
        boxed = set(re.findall(r"^│ \*?\s+(--[a-z-]+)", helps()[name], re.MULTILINE)) - {"--help"}
        assert boxed <= known
