"""A recorder to be killed: appends numbered rows for ever and says what was acknowledged.

Usage: python -m unit.recorder.victim FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .helpers import OFFSET, make_store, numbered


def main() -> None:
    store = make_store(Path(sys.argv[1]), rotate_bytes=150_000)
    template = numbered(0, 4000)
    first = 0
    while True:
        template["ack"] += 0 if first == 0 else 4000
        template["mono_ns"] += 4000 * 1000
        store.append("drops", template, OFFSET)
        first += 4000
        # One write is one acknowledgement: the pipe survives the kill.
        os.write(1, first.to_bytes(8, "little"))
        store.tick()


if __name__ == "__main__":
    main()
