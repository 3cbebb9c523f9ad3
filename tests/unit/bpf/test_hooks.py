"""What the kinds declare is what their sources hold."""

from __future__ import annotations

import re

import pytest

from droptape.bpf.kind import Fexit, Hook, Kretprobe, RawTracepoint
from droptape.bpf.kinds import all_kinds

HOOKS = [(kind, hook) for kind in all_kinds().values() for hook in kind.hooks]
ids = [f"{kind.table.name}/{hook.name}" for kind, hook in HOOKS]


@pytest.mark.parametrize(("kind", "hook"), HOOKS, ids=ids)
def test_every_program_is_a_function_of_the_source(kind: object, hook: Hook) -> None:
    (found,) = [k for k in all_kinds().values() if k is kind]
    functions = set(re.findall(r"^int (\w+)\(", found.source.read_text(), re.MULTILINE))
    for program in hook.programs:
        assert program.function in functions
        if isinstance(program, Kretprobe):
            assert program.entry in functions


def test_a_hook_of_many_programs_has_the_cheapest_first() -> None:
    (syn,) = [hook for kind, hook in HOOKS if (kind.table.name, hook.name) == ("listen", "syn")]
    assert [type(program) for program in syn.programs] == [RawTracepoint, Fexit, Kretprobe]


def test_names_of_hooks_are_unique() -> None:
    assert len(ids) == len(set(ids))
