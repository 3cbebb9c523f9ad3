"""Bytes per event of one capture: the recording, perf.data of the same packets, and text."""

from __future__ import annotations

import gzip
import subprocess
import tempfile
from pathlib import Path

from bench import command, peers
from bench.capture import trouble
from bench.lines import write_lines
from bench.table import Options, Ratio, Row
from lab import Lab
from lab.recorder import Recorder

_GZIP_LEVEL = 6


def measure(options: Options) -> list[Row]:
    """Record mixed trouble with both at the same time, and compare what they wrote."""
    with tempfile.TemporaryDirectory(prefix="droptape-bench-") as name, Lab() as lab:
        folder, host = Path(name), lab.host("load")
        data = folder / "perf.data"
        missing, count = "", options.pick(300_000, 60_000)
        with Recorder(folder / "rec", "--max-rate", "0"):
            try:
                with peers.perf_record(data):
                    trouble(host, count)
            except peers.PeerError as exc:
                missing = str(exc)
                trouble(host, count)
        files = list((folder / "rec" / "drops").glob("*.parquet"))
        rows = write_lines(folder / "rec", folder / "lines")
        ours = sum(path.stat().st_size for path in files) / rows
        text = (folder / "lines").read_bytes()
        values = {
            "text, as --live prints": len(text) / rows,
            "the same with gzip": len(gzip.compress(text, _GZIP_LEVEL)) / rows,
        }
        if not missing:
            samples = peers.perf_samples(data)
            values = {
                "perf.data": data.stat().st_size / samples,
                "perf script's text": _script_bytes(data) / samples,
            } | values
    out = [
        Row(f"size of an event, {rows:,} drops", f"{ours:.1f} bytes", f"{peer} {size:.1f}",
            Ratio.of([ours], [size]), "at most 12 bytes", ours <= 12)
        for peer, size in values.items()
    ]  # fmt: skip
    if missing:
        out.append(Row("size of an event, perf.data", "-", note=missing))
    return out


def _script_bytes(data: Path) -> int:
    with subprocess.Popen(
        ["perf", "script", "-i", str(data)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as script:
        assert script.stdout is not None
        read = script.stdout.read
        return sum(len(part) for part in iter(lambda: read(1 << 20), b""))


if __name__ == "__main__":
    command.main({"size": measure}, __doc__)
