"""Whether a recording is whole, and whether it agrees with the kernel's own counters."""

from __future__ import annotations

from .verification import Finding, Verdict, Verification, verify

__all__ = ["Finding", "Verdict", "Verification", "verify"]
