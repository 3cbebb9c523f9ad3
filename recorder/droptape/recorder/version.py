"""The version of droptape that is installed."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """Return it, or "unknown" when the code runs without being installed."""
    try:
        return metadata.version("droptape")
    except metadata.PackageNotFoundError:
        return "unknown"
