"""Draw docs/summary.svg, the README's picture, from a recording: ``python docs/picture.py REC``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 100
PICTURE = Path(__file__).parent / "summary.svg"


def main() -> None:
    """Run `droptape summary` as on a terminal and save what it shows."""
    (recording,) = sys.argv[1:]
    command = [Path(sys.executable).parent / "droptape", "summary", recording]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    shown = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(Text.from_ansi(shown.stdout.strip("\n")))
    drawn = console.export_svg(title=f"droptape summary {Path(recording).name}")
    # The reader's own fixed-width font does; nothing is to be fetched from elsewhere.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    main()
