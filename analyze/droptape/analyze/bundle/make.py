"""Making a bundle."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from droptape.analyze.errors import QueryError, RecordingError
from droptape.analyze.marks import landmarks
from droptape.analyze.render.words import size as size_text
from droptape.analyze.render.words import utc
from droptape.analyze.source import TABLE_KEY, Source, load
from droptape.analyze.targets import check, whole_file
from droptape.analyze.temporary import TemporaryFolder
from droptape.analyze.times import Window, window
from droptape.format.layout import IMPORTED, MANIFEST, stem
from droptape.format.manifest import Manifest, Segment
from droptape.format.schema import Table
from droptape.format.types import KSYM

from . import container, tables
from .names import read_key
from .redact import Redaction
from .thin import shares, thin

if TYPE_CHECKING:
    from collections.abc import Callable

    from droptape.analyze.recording import Recording, When

    Reopen = Callable[[Path], Recording]

DEFAULT_SIZE = 10_000_000
_ROW_GROUP = 131_072
_ROWS_AT_MOST = 4_000_000
_FEWEST = 20
"""Rows of events below which it makes no sense to leave out more."""
_ATTEMPTS = 30
_PLAIN = frozenset({"seq", "ack", "address"})


@dataclass(slots=True)
class Content:
    """What goes into a bundle.

    Attributes:
        events: rows of event tables, which may be thinned.
        rest: rows of the other tables, which are kept.
        counted: rows of each event table before any was left out.
    """

    manifest: Manifest
    events: dict[str, pa.Table] = field(default_factory=dict)
    rest: dict[str, pa.Table] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


def make(
    rec: Recording,
    path: Path,
    *,
    start: When,
    end: When,
    max_size: int,
    redact: bool,
    key: Path | None,
    reopen: Reopen,
) -> None:
    """See `Recording.bundle`; `reopen` opens a folder, for the report on what the bundle holds."""
    if len(rec.sources) != 1:
        raise QueryError("a bundle holds one recording: name one")
    if key is not None and not redact:
        raise QueryError("--key is for --redact")
    source = load(rec.sources[0].path, rec.sources[0].name)
    if source.manifest is None:
        raise RecordingError(f"{source.path}: its manifest is missing or damaged, so is no bundle")
    check(path, (rec.sources[0].bundle, key))
    wanted = window(start, end, landmarks([source])) or rec.window
    span = tables.widened(source, wanted)
    left_out = {source.file(problem): problem.text for problem in source.problems}
    content = _read(source, replace(source.manifest, damaged=left_out), span, max_size)
    _describe_span(content, wanted, span)
    if redact:
        _redact(content, Redaction(read_key(key)))
    made = _fit(content, max_size, redacted=redact, reopen=reopen)
    with whole_file(path) as aside, aside.open("wb") as file:
        container.write(file, made)


# --- what goes in --------------------------------------------------------------------------------


def _read(source: Source, manifest: Manifest, span: Window, max_size: int) -> Content:
    content = Content(manifest)
    budget = min(max_size, _ROWS_AT_MOST)  # more rows than bytes never fit
    for name, stored in source.tables.items():
        table = stored.table
        take = tables.cut(table, span)
        parts = [tables.plain_schema(table).empty_table()]
        thinnable = _thinnable(table)
        if thinnable:
            content.counted[name] = 0
        for rows in tables.batches(source, table):
            parts.append(take(rows))
            if thinnable:
                content.counted[name] += parts[-1].num_rows
                if sum(part.num_rows for part in parts) > 2 * budget:
                    parts = [_thinned(table, pa.concat_tables(parts), budget, manifest)]
        (content.events if thinnable else content.rest)[name] = pa.concat_tables(parts)
    content.manifest = replace(
        manifest, tables={name: stored.table for name, stored in source.tables.items()}
    )
    _keep_what_occurs(content)
    return content


def _thinnable(table: Table) -> bool:
    return table.role == "events" and "weight" in table.arrow_schema.names


def _thinned(table: Table, rows: pa.Table, budget: int, manifest: Manifest) -> pa.Table:
    present = rows.column_names
    alike = (table.cause, "segments", "benign", "netns", "location", "owner_pid", "dport", "lport")
    seed = hashlib.blake2b(f"{manifest.recording_id} {table.name}".encode(), digest_size=8)
    return thin(
        rows, [n for n in alike if n in present], budget, int.from_bytes(seed.digest(), "big")
    )


def _keep_what_occurs(content: Content) -> None:
    """Leave out of the dictionaries what nothing refers to."""
    everything = content.events | content.rest
    rest = content.rest
    if "symbols" in rest:
        places = _values(
            everything, content.manifest, lambda table: [c.name for c in table if c.type is KSYM]
        )
        rest["symbols"] = _symbols(rest["symbols"], places)
    for name, column, references in (
        ("cgroups", "id", ("cgroup_id",)),
        ("netns", "inum", ("netns",)),
        ("processes", "pid", ("owner_pid", "context_pid")),
    ):
        if name in rest:
            used = _values(everything, content.manifest, lambda _, r=references: list(r))
            wanted = pa.array(sorted(used), pa.int64())
            rest[name] = rest[name].filter(pc.is_in(rest[name][column].cast(pa.int64()), wanted))


def _values(everything: dict[str, pa.Table], manifest: Manifest, columns: Any) -> set[int]:
    found: set[int] = set()
    for name, rows in everything.items():
        for column in columns(manifest.tables[name]):
            if column in rows.column_names:
                found.update(v for v in pc.unique(rows[column]).to_pylist() if v is not None)
    return found


def _symbols(symbols: pa.Table, places: set[int]) -> pa.Table:
    """Keep the function of every place: all names at the nearest address below."""
    starts = np.unique(symbols["address"].to_numpy())
    wanted = np.array(sorted(places), np.int64)
    at = starts.searchsorted(wanted, side="right") - 1
    kept = pa.array(starts[at[at >= 0]], pa.int64())
    return symbols.filter(pc.is_in(symbols["address"], kept))


def _describe_span(content: Content, wanted: Window | None, span: Window) -> None:
    manifest = content.manifest
    if wanted is None:
        return
    started = max(manifest.started_ns, span.start or manifest.started_ns)
    ended = span.end if span.end is not None else manifest.ended_ns
    if ended is not None and manifest.ended_ns is not None:
        ended = min(ended, manifest.ended_ns)
    losses: dict[str, dict[str, int]] = {}
    if "losses" in content.rest:
        for row in content.rest["losses"].select(["kind", "cause", "events"]).to_pylist():
            of_kind = losses.setdefault(row["kind"], {})
            of_kind[row["cause"]] = of_kind.get(row["cause"], 0) + row["events"]
    until = utc(ended) if ended is not None else "its end"
    note = f"A part of a longer recording: {utc(started)} to {until} UTC, in whole seconds."
    content.manifest = replace(
        manifest, started_ns=started, ended_ns=ended, losses=losses, notes=[*manifest.notes, note]
    )


def _redact(content: Content, redaction: Redaction) -> None:
    manifest = content.manifest
    shift = redaction.shift(manifest.host.boot_id)
    left_out = [n for n, t in manifest.tables.items() if not redaction.known(t)]
    for part in (content.events, content.rest):
        for name in [n for n in part if n in left_out]:
            del part[name]
        for name in part:
            part[name] = redaction.rows(manifest.tables[name], part[name], shift)
    redacted = redaction.manifest(manifest)
    note = (
        "Redacted: names are pseudonyms, addresses are replaced and keep their common prefixes; "
        "command lines and sequence numbers are left out."
    )
    if left_out:
        imported = sum(name.startswith(IMPORTED) for name in left_out)
        note += f" {len(left_out)} tables are left out, {imported} of them imported."
    kept = {name: table for name, table in manifest.tables.items() if name not in left_out}
    content.manifest = replace(redacted, tables=kept, notes=[*redacted.notes, note])


# --- making it small enough ----------------------------------------------------------------------


def _fit(content: Content, max_size: int, *, redacted: bool, reopen: Reopen) -> dict[str, bytes]:
    """Thin the events until the archive is at most `max_size` bytes; return its members."""
    manifest, files = _manifest(content, redacted)
    beside = taken = 0  # bytes: of what does not shrink, of all
    for _ in range(_ATTEMPTS):
        in_events = sum(len(data) for n, data in files.items() if n.split("/")[0] in content.events)
        counts = {name: rows.num_rows for name, rows in content.events.items()}
        rows = sum(counts.values())
        if not beside or beside + in_events <= max_size or rows <= _FEWEST:
            made = _members(manifest, files, reopen)
            taken = container.size(made)
            if taken <= max_size:
                return made
            beside = taken - in_events
        if rows <= _FEWEST:
            break
        budget = int(rows * min((max_size - beside) / max(in_events, 1) * 0.95, 0.9))
        for name, share in shares(counts, max(budget, 1)).items():
            table = manifest.tables[name]
            content.events[name] = _thinned(table, content.events[name], share, manifest)
        manifest, files = _manifest(content, redacted)
    raise QueryError(
        f"--max-size {size_text(max_size)} is not enough: totals, counters, settings, the report "
        f"and a few events take {size_text(taken)}; use --from and --to, or a larger size"
    )


def _members(manifest: Manifest, files: dict[str, bytes], reopen: Reopen) -> dict[str, bytes]:
    described = manifest.to_bytes()
    index = {
        "format": container.FORMAT,
        "version": container.VERSION,
        **manifest.options["bundle"],
        "manifest_sha256": hashlib.sha256(described).hexdigest(),
    }
    return {
        container.INDEX: (json.dumps(index, indent=1) + "\n").encode(),
        MANIFEST: described,
        container.REPORT: _report(manifest, files, reopen),
        **files,
    }


def _manifest(content: Content, redacted: bool) -> tuple[Manifest, dict[str, bytes]]:
    manifest = content.manifest
    files: dict[str, bytes] = {}
    listed: list[Segment] = []
    for name in sorted(content.events | content.rest):
        rows = content.events[name] if name in content.events else content.rest[name]
        if rows.num_rows == 0:
            continue
        data = _parquet(manifest.tables[name], rows)
        file = f"{name}/{stem(1, manifest.started_ns)}.parquet"
        times = rows["ts_ns"] if "ts_ns" in rows.column_names else pa.chunked_array([pa.nulls(1)])
        files[file] = data
        listed.append(
            Segment(
                name, file, rows.num_rows, pc.min(times).as_py(), pc.max(times).as_py(),
                len(data), hashlib.sha256(data).hexdigest(),
            )
        )  # fmt: skip
    sampled = {
        name: {"rows": rows.num_rows, "of": content.counted[name]}
        for name, rows in content.events.items()
        if rows.num_rows < content.counted[name]
    }
    notes = list(manifest.notes)
    if sampled:
        kept = "; ".join(f"{n}: {s['rows']:,} of {s['of']:,} rows" for n, s in sampled.items())
        notes.append(
            f"A sample to save space ({kept}): a row's weight says how many events it stands for. "
            "Sums of weights, totals, losses and counters are exact."
        )
    options = {**manifest.options, "bundle": {"redacted": redacted, "sampled": sampled}}
    return replace(manifest, segments=listed, notes=notes, options=options), files


def _parquet(table: Table, rows: pa.Table) -> bytes:
    out = io.BytesIO()
    encoded = [n for n in rows.column_names if n not in _PLAIN and not n.endswith("_ns")]
    # Without Arrow's own copy of the schema, and with the declaration as in the recorder's files.
    with pq.ParquetWriter(
        out, rows.schema, compression="zstd", compression_level=9, use_dictionary=encoded,
        write_page_checksum=True, store_schema=False,
    ) as writer:  # fmt: skip
        writer.write_table(rows, row_group_size=_ROW_GROUP)
        writer.add_key_value_metadata({TABLE_KEY.decode(): json.dumps(table.to_json())})
    return out.getvalue()


def _report(manifest: Manifest, files: dict[str, bytes], reopen: Reopen) -> bytes:
    """Return the report on what is in the bundle, and nothing else."""
    with TemporaryFolder("droptape-bundle-") as temp:
        # The name is shown in the report.
        folder = Path(temp) / f"{manifest.host.name or 'recording'}".replace("/", "_")[:100]
        folder.mkdir(mode=0o700)
        for name, data in files.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        manifest.write(folder)
        target = Path(temp) / container.REPORT
        with reopen(folder) as rec:
            rec.report(target)
        return target.read_bytes()
