"""Bundles from strangers: forged so that one thing is wrong and the rest agrees with it."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from droptape.analyze import RecordingError, open_recording
from droptape.analyze.bundle import container

Members = dict[str, bytes]
DROPS = "drops/000001-20231114T221320Z.parquet"


def sealed(members: Members, change: Callable[[dict[str, Any]], None] | None = None) -> Members:
    """Make manifest and index agree with the members, as a forger would."""
    manifest = json.loads(members["recording.json"])
    for segment in manifest["segments"]:
        data = members.get(segment["file"])
        if data is not None:
            segment["sha256"] = hashlib.sha256(data).hexdigest()
            segment["bytes"] = len(data)
    if change is not None:
        change(manifest)
    text = json.dumps(manifest).encode()
    index = json.loads(members["bundle.json"])
    index["manifest_sha256"] = hashlib.sha256(text).hexdigest()
    return {**members, "recording.json": text, "bundle.json": json.dumps(index).encode()}


def pack(path: Path, members: Members) -> Path:
    with path.open("wb") as file:
        container.write(file, members)
    return path


def pack_by_hand(path: Path, members: list[tuple[str, bytes]], mode: dict[str, int]) -> Path:
    """Pack without the care that `container.write` takes."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode.get(name, stat.S_IFREG | 0o644) << 16
            if not name.endswith("parquet"):
                info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def refused(path: Path) -> str:
    """Open a bundle that must not open; return what is said."""
    with pytest.raises(RecordingError) as caught:
        open_recording(path).close()
    said = str(caught.value)
    assert "\n" not in said
    assert path.name in said
    return said


def parquet(members: Members, change: Callable[[pa.Table], pa.Table]) -> Members:
    """Replace the drops by others."""
    out = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(members[DROPS]))), out, compression="zstd")
    return {**members, DROPS: out.getvalue()}


def replaced(rows: pa.Table, column: str, values: list[Any]) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
