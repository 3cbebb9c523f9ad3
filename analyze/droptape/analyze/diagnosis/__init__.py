"""Named findings with evidence and remedy, by rules that are files (docs/DIAGNOSE.md).

`rules` reads a rule's file, `text` fills its texts, `run` asks a recording, `findings` is the
answer.
"""

from __future__ import annotations

from .findings import SEVERITIES, Check, Diagnosis, Finding, Severity, Step
from .rules import Rule, RuleError, load_rules
from .run import diagnose

__all__ = [
    "SEVERITIES",
    "Check",
    "Diagnosis",
    "Finding",
    "Rule",
    "RuleError",
    "Severity",
    "Step",
    "diagnose",
    "load_rules",
]
