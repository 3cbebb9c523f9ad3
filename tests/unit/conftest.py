"""What holds for all tests without privilege."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: how long one example takes is not judged.
settings.register_profile("droptape", deadline=None)
settings.load_profile("droptape")
