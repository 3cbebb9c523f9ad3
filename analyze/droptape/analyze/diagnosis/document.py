"""Writes docs/DIAGNOSE.md: ``python -m droptape.analyze.diagnosis.document``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files

from .rules import Rule, load_rules

_HOW = (files(__package__ or "") / "how.md").read_text("utf-8")


def _rule(rule: Rule) -> Iterator[str]:
    yield f"### {rule.id}\n"
    yield f"{rule.title}.\n"
    needs = ", ".join(f"`{need}`" for need in rule.needs)
    helps = ", ".join(f"`{table}`" for table in rule.helps)
    yield f"Needs {needs}{f'; uses {helps} where recorded' if helps else ''}.\n"
    for threshold in rule.thresholds:
        yield f"- `{threshold.name}` = {threshold.value:g}: {threshold.reason}"
    if rule.covers:
        yield "\nDrop reasons: " + ", ".join(f"`{reason}`" for reason in rule.covers) + "."
    yield ""


def document() -> str:
    """Return docs/DIAGNOSE.md."""
    lines = [_HOW]
    for rule in load_rules():
        lines += _rule(rule)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
