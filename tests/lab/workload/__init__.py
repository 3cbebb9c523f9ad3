"""Processes that own sockets in every usual way, and the truth about who owns which."""

from __future__ import annotations

from lab.workload.stage import Workload
from lab.workload.truth import Flow, Log, Owner, Truth

__all__ = ["Flow", "Log", "Owner", "Truth", "Workload"]
