"""The JavaScript that draws the pictures of a page, and where it is kept for the next one.

To put it together takes seconds, and gives the same for the same version.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the package that carries them.

    Raises:
        ImportError: that package is not installed.
    """
    import vl_convert

    kept = _place(version("vl-convert-python"))
    script = _find(kept) if kept else None
    if script is None:
        script = vl_convert.javascript_bundle(_SNIPPET)
        if kept:
            _keep(kept, script)
    # Nothing in it may end the script element, or begin what changes how its end is found.
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", script, flags=re.IGNORECASE)


def _place(made_by: str) -> Path | None:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # there is none
            return None
    if not base.is_absolute():
        return None
    return base / "droptape" / f"vega-{made_by}.js"


def _find(kept: Path) -> str | None:
    """Return what was kept; None where it is damaged, or others could have written it."""
    try:
        with os.fdopen(os.open(kept, _READ), "rb") as file:
            found = os.fstat(file.fileno())
            ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if not ours or not stat.S_ISREG(found.st_mode):
                return None
            checksum, _, script = file.read().partition(b"\n")
    except OSError:
        return None
    return script.decode() if checksum == _checksum(script) else None


def _keep(kept: Path, script: str) -> None:
    """Keep it in place of other versions. Where that cannot be done it is made each time."""
    data = script.encode()
    with suppress(OSError):
        there = next(folder for folder in kept.parents if folder.exists())
        if there.stat().st_uid != os.geteuid():
            return  # root with the home of somebody, who could not write there any more
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".vega-", delete=False) as aside:
            try:
                aside.write(_checksum(data) + b"\n" + data)
                aside.flush()
                Path(aside.name).replace(kept)
            except OSError:
                Path(aside.name).unlink()
                raise
        for other in kept.parent.glob("vega-*.js"):
            if other != kept:
                other.unlink()


def _checksum(script: bytes) -> bytes:
    return hashlib.sha256(script).hexdigest().encode()
