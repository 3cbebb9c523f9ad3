"""Whether a recording is whole, and whether it agrees with the kernel's own counters."""

from __future__ import annotations

from .books import quick_look
from .verification import Finding, Verdict, Verification, files_only, verify

__all__ = ["Finding", "Verdict", "Verification", "files_only", "quick_look", "verify"]
