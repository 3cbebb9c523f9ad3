"""`--config`: options from a file, for a service."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Sequence
from pathlib import Path

from .options import UsageError

_ON, _OFF = ("yes", "true", "on"), ("no", "false", "off")
_NOT_HERE = ("config", "check", "mark", "print-completion", "version", "help")


def arguments(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """Return the options in `path` as arguments of a command line.

    A line is ``name = value``, where the name is that of an option without its dashes; for one
    without a value it is yes or no. Empty lines and those that begin with # say nothing, nor does
    the byte order mark that some editors write first.

    Args:
        path: the file.
        parser: knows the options.

    Raises:
        UsageError: the file cannot be read, or a line of it is no option or has a wrong value.
    """
    try:
        # A pipe may never say anything, and a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is no regular file: --config takes one, no pipe")
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise UsageError(f"{path} cannot be read: {reason}") from exc
    options = {o: action for action in parser._actions for o in action.option_strings}
    out: list[str] = []
    given: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if "\0" in text:
            raise UsageError(f"{path}, line {number}: {text[:60]!r} is no option: it has a NUL")
        name, equals, value = (part.strip() for part in text.partition("="))
        action = options.get(f"--{name}")
        if name in given:
            raise UsageError(f"{path}, line {number}: {name} is there twice")
        given.add(name)
        if action is None or name in _NOT_HERE or not equals or not value:
            raise UsageError(
                f"{path}, line {number}: {text[:60]!r} is no option (write: name = value)"
            )
        if action.nargs != 0:
            try:
                parser.parse_known_args([f"--{name}={value}"])
            except UsageError as exc:
                raise UsageError(f"{path}, line {number}: {exc}") from exc
            out.append(f"--{name}={value}")
        elif value.lower() in _ON:
            out.append(f"--{name}")
        elif value.lower() not in _OFF:
            raise UsageError(f"{path}, line {number}: {name} is yes or no, not {value[:60]!r}")
    return out


def with_config(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return `argv` with the options of its ``--config`` put before its own, which win."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    only = type(parser)(add_help=False, allow_abbrev=False)
    only.add_argument("--config", type=Path)
    found, _ = only.parse_known_args(list(argv[:end]))
    return [*(arguments(found.config, parser) if found.config else ()), *argv]
