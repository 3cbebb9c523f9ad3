"""How long searches among random changes go on."""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("DROPTAPE_EXAMPLES", "20"))
"""How many changes each search tries; more of them take longer and find more."""
