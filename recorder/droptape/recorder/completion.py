"""Shell completion for `droptape-record`, made from its parser: ``--print-completion SHELL``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SHELLS = ("bash", "zsh", "fish")
_NAME = "droptape-record"
_FUNCTION = "_droptape_record"

Kind = Literal["flag", "text", "file", "folder", "list", "choice"]

# What stands after an option; anything else that takes a value takes text.
_KINDS: dict[str, Kind] = {
    "output": "folder", "btf": "file", "events": "list", "print_completion": "choice",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Option:
    """One option: its names, what it says, what stands after it, and the words that may."""

    names: tuple[str, ...]
    help: str
    kind: Kind
    words: tuple[str, ...] = ()


def script(shell: str, parser: argparse.ArgumentParser, events: Iterable[str]) -> str:
    """Return the completion for one of `SHELLS`.

    Args:
        shell: bash, zsh or fish.
        parser: that of the command line.
        events: what ``--events`` takes.
    """
    words: dict[str, tuple[str, ...]] = {"events": tuple(events), "print_completion": SHELLS}
    options = [
        _Option(
            tuple(action.option_strings),
            " ".join((action.help or "").replace("%%", "%").split()),
            "flag" if action.nargs == 0 else _KINDS.get(action.dest, "text"),
            words.get(action.dest, ()),
        )
        for action in parser._actions
        if action.option_strings
    ]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options)


def _bash(options: list[_Option]) -> str:
    answers = {
        "folder": 'COMPREPLY=($(compgen -d -- "$current"))',
        "file": 'COMPREPLY=($(compgen -f -- "$current"))',
        "text": "COMPREPLY=()",
    }
    cases = []
    for option in options:
        answer = answers.get(option.kind, "")
        if option.kind == "choice":
            answer = f'COMPREPLY=($(compgen -W "{" ".join(option.words)}" -- "$current"))'
        if option.kind == "list":
            answer = (
                'prefix=""; [[ $current == *,* ]] && prefix="${current%,*},"; '
                f'COMPREPLY=($(compgen -P "$prefix" -W "{" ".join(option.words)}" '
                '-- "${current##*,}"))'
            )
        if answer:
            cases.append(f"        {'|'.join(option.names)}) {answer}; return ;;")
    names = " ".join(name for option in options for name in option.names)
    return "\n".join(
        [
            f"{_FUNCTION}() {{",
            '    local current="${COMP_WORDS[COMP_CWORD]}" prefix i',
            "    for ((i = 1; i < COMP_CWORD; i++)); do",
            '        if [[ "${COMP_WORDS[i]}" == -- ]]; then',
            "            if declare -F _command_offset >/dev/null; then",
            "                _command_offset $((i + 1))",
            "            elif ((COMP_CWORD == i + 1)); then",
            '                COMPREPLY=($(compgen -c -- "$current"))',
            "            else",
            '                COMPREPLY=($(compgen -f -- "$current"))',
            "            fi",
            "            return",
            "        fi",
            "    done",
            '    case "${COMP_WORDS[COMP_CWORD - 1]}" in',
            *cases,
            "    esac",
            f'    COMPREPLY=($(compgen -W "{names} --" -- "$current"))',
            "}",
            f"complete -F {_FUNCTION} {_NAME}",
            "",
        ]
    )


def _zsh(options: list[_Option]) -> str:
    after = {"folder": ":folder:_files -/", "file": ":file:_files", "text": ":value: ", "flag": ""}
    lines = []
    for option in options:
        action = after.get(option.kind, "")
        if option.kind == "choice":
            action = f":shell:({' '.join(option.words)})"
        if option.kind == "list":
            action = f":kinds:_values -s , kind {' '.join(option.words)}"
        text = option.help
        for character in "\\[]:":
            text = text.replace(character, "\\" + character)
        others = f"({' '.join(option.names)})"
        specs = [_quoted(f"{others}{name}[{text}]{action}") for name in option.names]
        lines += [f"        {spec} \\" for spec in specs]
    return "\n".join(
        [
            f"#compdef {_NAME}",
            f"{_FUNCTION}() {{",
            "    _arguments -S \\",
            *lines,
            "        '(-)1: :_command_names -e' \\",
            "        '*::arguments:_normal'",
            "}",
            f'if [ "${{funcstack[1]}}" = "{_FUNCTION}" ]; then',
            f'    {_FUNCTION} "$@"',
            "else",
            f"    compdef {_FUNCTION} {_NAME}",
            "fi",
            "",
        ]
    )


def _fish(options: list[_Option]) -> str:
    before = "not contains -- -- (commandline -opc)"
    behind = "contains -- -- (commandline -opc)"
    lines = [
        f"complete -c {_NAME} -f",
        f"complete -c {_NAME} -n '{behind}' -F -a '(__fish_complete_command)'",
    ]
    for option in options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        takes = {
            "flag": "", "text": " -x", "file": " -r -F",
            "folder": " -x -a '(__fish_complete_directories)'",
            "choice": f" -x -a {_quoted(' '.join(option.words))}",
            "list": f" -x -a '(__fish_append , {' '.join(option.words)})'",
        }[option.kind]  # fmt: skip
        lines.append(
            f"complete -c {_NAME} -n '{before}' {names}{takes} -d {_fish_quoted(option.help)}"
        )
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
