"""What changed between two recordings."""

from __future__ import annotations

from .change import Change, Verdict
from .compare import Diff, diff
from .settings import Setting

__all__ = ["Change", "Diff", "Setting", "Verdict", "diff"]
