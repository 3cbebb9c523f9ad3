"""Putting the page together."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from droptape.analyze.errors import QueryError
from droptape.analyze.render.words import duration

from . import sections
from .cube import DIMENSIONS
from .findings import findings
from .gather import CURVES, Gathered, gather
from .html import Html, join, query, script_json, table, text
from .library import library
from .queries import queries

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

MAX_BYTES = 5_000_000
"""A page is never larger: what it holds is bounded."""

_WHO = (
    "Process", "PID", "Container", "Port", "Namespace", "Device", "Events", "Mostly", "Since",
    "Until",
)  # fmt: skip


def page(rec: Recording) -> str:
    """Return the HTML page about `rec`.

    Raises:
        QueryError: what draws the pictures is not installed.
    """
    try:
        from .pictures import pictures

        drawing = library()
    except ImportError as exc:
        raise QueryError(f"{exc.name} is not installed: pip install 'droptape[report]'") from exc
    found = gather(rec)
    counted = found.cube
    kinds = sections.colors(list(dict.fromkeys(g.values[1] for g in counted.groups)))
    kinds = sections.colors([k["kind"] for k in found.summary.kinds if k["kind"] in kinds])
    texts = queries(counted.width_ns, counted.origin_ns)
    start = counted.origin_ns / 1e6
    specs = pictures(kinds, (start, start + counted.count * counted.width_ns / 1e6))
    if not found.queues.rows:
        del specs["queues"]
    data = {
        "cube": counted.to_json(),
        "zero": (found.summary.info.origin_ns or counted.origin_ns) / 1e6,
        "queries": texts,
        "queues": [_curve(row) for row in found.queues.rows[:CURVES]],
        "specs": specs,
    }
    style, script = _asset("style.css"), _asset("script.js")
    heading = _heading(found)
    return Template(_asset("page.html")).substitute(
        policy=_policy((style,), (drawing, script)),
        title=text(f"{heading}: droptape report"),
        style=style,
        library=drawing,
        script=script,
        heading=text(heading),
        facts=sections.facts(found),
        findings=findings(found),
        tiles=sections.tiles(found, kinds),
        legend=sections.legend(kinds),
        marks=sections.marks(found),
        dimensions=_choices(),
        who=table("who", "Who and where", _WHO, (), numeric=(1, 3, 6, 8, 9)),
        cut=sections.cut(found),
        queues=_queues(found, texts["queues"]),
        functions=join((sections.functions(found), query(texts["functions"], "functions"))),
        completeness=join((sections.completeness(found), query(texts["losses"], "losses"))),
        host=join((sections.host(found), query(texts["sysctls"], "sysctls"))),
        footer=text(
            f"Made by droptape from {_count(len(rec.sources), 'recording')}. A bar is "
            f"{duration(counted.width_ns / 1e9)} wide. Times are UTC; offsets count from the start."
        ),
        data=script_json(data),
        **{f"query_{n}": query(texts[n], n) for n in ("overview", "causes", "who")},
        query_ranking=query(texts["ranking:process"], "ranking"),
    )


def _heading(found: Gathered) -> str:
    hosts = list(dict.fromkeys(r.host.name for r in found.summary.info.recordings if r.host))
    if len(hosts) == 1:
        return f"What happened on {hosts[0]}"
    return f"What happened on {len(hosts)} hosts" if hosts else "What happened"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _curve(row: dict[str, Any]) -> dict[str, Any]:
    at = f"{row['laddr']}:{row['lport']}"
    where = f" in {row['namespace']}" if row["namespace"] else ""
    points = [[p["bucket"], p["waiting"], p["backlog"], p["syn_queue"]] for p in row["points"]]
    return {"label": str(text_of(f"{row['owner'] or 'unknown'} {at}{where}")), "points": points}


def text_of(value: str) -> str:
    """Return a label without control characters, for the pictures, which escape by themselves."""
    from droptape.analyze.plain import printable

    return printable(value)[:120]


def _queues(found: Gathered, sql: str) -> Html:
    parts = []
    if found.queues.rows:
        parts.append(
            '<ul class="legend"><li class="kind-1">waiting for accept</li>'
            '<li class="kind-0 limit">limit (backlog)</li></ul>'
            '<div class="picture" id="queues" role="img" aria-label="Depth of accept queues, one '
            'row for each listening socket"></div>'
        )
    return join((*parts, sections.queues(found), query(sql, "queues")))


def _choices() -> Html:
    return join(
        f'<label><input type="radio" name="dimension" value="{name}"'
        f"{' checked' if name == 'process' else ''}> {name}</label>"
        for name in DIMENSIONS
        if name not in ("pid", "kind")
    )


@cache
def _asset(name: str) -> str:
    return (files(__package__ or "") / "assets" / name).read_text("utf-8")


def _policy(styles: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    def hashes(texts: tuple[str, ...]) -> str:
        digests = (hashlib.sha256(t.encode()).digest() for t in texts)
        return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; "
        "base-uri 'none'; form-action 'none'"
    )
