"""One trouble for each rule of `droptape diagnose`, and what the finding has to say."""

from . import delivering, filtering, listening, windows
from .stage import TROUBLES, Expected, Stage

__all__ = ["TROUBLES", "Expected", "Stage", "delivering", "filtering", "listening", "windows"]
