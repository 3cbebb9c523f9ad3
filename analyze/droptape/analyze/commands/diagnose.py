"""droptape diagnose."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from droptape.analyze.diagnosis import SEVERITIES, Diagnosis
from droptape.analyze.recording import Recording
from droptape.analyze.render.diagnosis import show

from ._listing import Answer, asking, listing

Least = Enum("Least", {severity: severity for severity in SEVERITIES}, type=str)  # type: ignore[misc]


@listing
@asking
def diagnose(
    rec: Recording,
    min_severity: Annotated[
        Least | None,
        typer.Option(
            "--min-severity",
            help="Findings of this severity and above, all in full; otherwise notices are one "
            "line each.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="FOLDER", help="Also use the rules in FOLDER."),
    ] = None,
    *,
    recordings: list[str],
) -> Answer:
    """Say what is wrong: findings with evidence, what they mean, what to do, how to know it helped.

    The formats csv, ndjson, markdown and parquet hold a row for each finding; json holds
    everything, also what was checked and found healthy.

    Example: [bold]droptape diagnose droptape-web1-20261121T075348Z[/bold]
    """
    found = rec.diagnose(rules or ())
    least = min_severity.value if min_severity is not None else None
    if least is not None:
        found = Diagnosis(found.info, found.at_least(least), found.checks)
    return Answer(
        _rows(found),
        lambda console: show(console, found, recordings, in_full=least is not None),
        found.to_json(),
    )


def _rows(found: Diagnosis) -> pa.Table:
    schema = pa.schema(
        [(n, pa.string()) for n in ("recording", "severity", "id", "title")]
        + [(n, pa.int64()) for n in ("netns", "events")]
        + [(n, pa.timestamp("ns")) for n in ("since", "until")]
        + [(n, pa.string()) for n in ("evidence", "meaning", "remedy", "proof", "query")]
    )
    rows = [
        {
            **{name: getattr(one, name) for name in schema.names if hasattr(one, name)},
            "since": one.since_ns,
            "until": one.until_ns,
            "evidence": " ".join(one.evidence),
            "remedy": "\n".join(line for s in one.remedy for line in (s.text, *s.commands)),
            "proof": "\n".join((one.proof.text, *one.proof.commands)),
        }
        for one in found.findings
    ]
    return pa.Table.from_pylist(rows, schema)
