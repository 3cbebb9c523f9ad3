"""What runs in the virtual machine: write down what the recorder can do here, then the tests.

Usage: python -m vm.inside FOLDER [PYTEST ARGUMENTS]
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from droptape.bpf import client
from droptape.bpf.kinds import all_kinds
from droptape.format.errors import DroptapeError


def _probes() -> dict[str, object]:
    """Load every program once."""
    try:
        loaded = client.load(list(all_kinds()))
    except DroptapeError as error:
        return {"problem": str(error)}
    try:
        return {
            "probes": [asdict(probe) for probe in loaded.probes],
            "reasons": sum(r.enum == "skb_drop_reason" for r in loaded.reasons),
        }
    finally:
        loaded.close()


def main() -> int:
    """Return what pytest returns."""
    folder, *arguments = sys.argv[1:]
    facts = {"release": platform.release(), "machine": platform.machine(), **_probes()}
    Path(folder, "facts.json").write_text(json.dumps(facts, indent=1))
    # An emulated processor is slow, so a test may take longer.
    options = ["-p", "no:cacheprovider", "--timeout=600", f"--junitxml={folder}/tests.xml"]
    return int(pytest.main([*options, *arguments]))


if __name__ == "__main__":
    sys.exit(main())
