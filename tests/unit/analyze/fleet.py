"""A small fleet: the real recordings of the notebooks under other names of hosts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

RECORDINGS = Path(__file__).parents[3] / "notebooks" / "recordings"
HOSTS = {"web-1": "incident", "web-2": "before", "db-1": "after"}
"""Name of each host, and the recording it has."""


def make_host(folder: Path, name: str, of: str) -> Path:
    """Copy a recording of the notebooks to ``folder/<name>`` as the one of another host."""
    made = folder / name
    shutil.copytree(RECORDINGS / of, made)
    change(
        made,
        recording_id=f"{sum(map(ord, name + of)):08x}-{name}",
        host={"name": name, "machine_id": f"machine-of-{name}", "boot_id": f"boot-of-{name}"},
    )
    return made


def change(recording: Path, **values: object) -> None:
    """Change what recording.json says; of `host`, only what is given."""
    path = recording / "recording.json"
    data = json.loads(path.read_text())
    host = values.pop("host", {})
    assert isinstance(host, dict)
    data["host"] |= host
    path.write_text(json.dumps(data | values))


def make_fleet(folder: Path) -> list[Path]:
    """Make the recordings of `HOSTS` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [make_host(folder, name, of) for name, of in HOSTS.items()]
