"""The exceptions of droptape: one base, so that each command line has one place to catch them."""

from __future__ import annotations


class DroptapeError(Exception):
    """Something a user can act on; its text is one line that says what is wrong and what to do."""


class FormatError(DroptapeError):
    """A file of a recording cannot be read; the text names the file."""


class NewerFormatError(FormatError):
    """A file was written by a newer droptape than this one."""
