"""Shell completion of both programs, by the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from droptape.bpf.kinds import all_kinds
from droptape.recorder.cli import parser
from droptape.recorder.completion import SHELLS, script

OPTIONS = {name for action in parser()._actions for name in action.option_strings}
PROGRAMS = Path(sys.executable).parent


def run(shell: str, code: str, **environment: str) -> str:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    plain = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    done = subprocess.run(
        [program, plain, "-c", code],
        capture_output=True, text=True, check=True, timeout=30,
        env={**os.environ, "TERM": "dumb", **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_there(shell: str) -> None:
    text = script(shell, parser(), all_kinds())
    for option in OPTIONS:
        wanted = option if shell != "fish" else f"-{'l' if option[:2] == '--' else 's'} "
        assert wanted + (option.lstrip("-") if shell == "fish" else "") in text, option


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rotate-"], ["--rotate-size", "--rotate-every"]),
        (["--events", "res"], ["resets"]),
        (["--events", "drops,ret"], ["drops,retransmits"]),
        (["--print-completion", "f"], ["fish"]),
        (["--duration", ""], []),
        (["-o", "fol"], ["folder"]),
        (["--btf", "fi"], ["file"]),
        (["--", "nsente"], ["nsenter"]),
        (["--", "echo", "fi"], ["file"]),
        (["--", "echo", "--rotate-"], []),
    ],
)
def test_bash(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    (tmp_path / "c.bash").write_text(script("bash", parser(), all_kinds()))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    listed = " ".join(f"'{word}'" for word in ["droptape-record", *words])
    code = (
        f"cd {tmp_path}; source ./c.bash; COMP_WORDS=({listed}); COMP_CWORD={len(words)}; "
        "_droptape_record; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    assert sorted(set(run("bash", code).split())) == sorted(expected)


def test_zsh_takes_it(tmp_path: Path) -> None:
    (tmp_path / "c.zsh").write_text(script("zsh", parser(), all_kinds()))
    code = (
        f"autoload -U compinit; compinit -D -u; source {tmp_path}/c.zsh; "
        "print $_comps[droptape-record]"
    )
    assert run("zsh", code).strip() == "_droptape_record"


def test_fish(tmp_path: Path) -> None:
    (tmp_path / "c.fish").write_text(script("fish", parser(), all_kinds()))
    code = f"source {tmp_path}/c.fish; complete -C 'droptape-record --rotate-'"
    found = [line.split("\t")[0] for line in run("fish", code).splitlines()]
    assert sorted(found) == ["--rotate-every", "--rotate-size"]


@pytest.mark.parametrize(("shell", "file"), [
    ("bash", ".bash_completions/droptape.sh"),
    ("zsh", ".zfunc/_droptape"),
    ("fish", ".config/fish/completions/droptape.fish"),
])  # fmt: skip
def test_droptape_installs_its_own(tmp_path: Path, shell: str, file: str) -> None:
    code = f"{PROGRAMS / 'droptape'} --install-completion; true"
    said = run(shell, code, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / ".config"))
    assert f"{shell} completion installed" in said
    assert "droptape" in (tmp_path / file).read_text()


def test_droptape_completes_its_commands() -> None:
    environment = {"_DROPTAPE_COMPLETE": "complete_bash", "COMP_WORDS": "droptape su",
                   "COMP_CWORD": "1"}  # fmt: skip
    done = subprocess.run(
        [PROGRAMS / "droptape"], env={**os.environ, **environment}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["summary"]
