"""The books: what the kernel counted against what was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from droptape.analyze import events
from droptape.analyze.engine import literal, name
from droptape.analyze.source import Source
from droptape.analyze.sqlfiles import load

from . import rules
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_MARGIN_NS = 20_000_000
_READING_NS = 100_000_000
_SECOND_NS = 1_000_000_000
_LONGEST_READING_NS = 2 * _SECOND_NS
_BEHIND_NS = 2 * _SECOND_NS
_SAMPLING_NS = 1 << 30
"""A row that stands for several events stands for events of at most so long before it."""
_NOT_TRIMMED = "SELECT NULL::VARCHAR AS recording, NULL::BIGINT AS from_ns WHERE false"
_NO_LOSSES = (
    "(SELECT NULL::VARCHAR AS recording, NULL::VARCHAR AS kind, NULL::VARCHAR AS cause, "
    "0 AS events WHERE false)"
)


def against_counters(rec: Recording) -> Iterator[Finding]:
    """Compare every event with the kernel's counters, by the rules in rules.py."""
    if not {"counters", "totals"} <= set(rec.views):
        return
    entries = f"{_rows(rec)} UNION ALL {_unrecorded(rec)}"
    _prepare(rec, entries)
    yield from _by_rules(rec, rules.RULES, _unseen(rec, "recursion", "map_full", "disk_full"))
    for row in _ask(rec, "books_outside", entries=_rows(rec)):
        if row["recorded"]:
            yield Finding(
                row["recording"], "counters", row["kind"], recorded=row["recorded"],
                verdict=Verdict.NOT_CHECKED, why=rules.OUTSIDE,
            )  # fmt: skip


def quick_look(rec: Recording) -> list[Finding]:
    """Return what is unexplained when the totals stand for the rows: cheap, but blunt.

    The totals are per second, so up to two seconds at both ends are in doubt.
    """
    if not {"counters", "totals"} <= set(rec.views):
        return []
    _prepare(rec, _totals(rec))
    plain = [rule for rule in rules.RULES if "failed" not in rule.where]
    found = _by_rules(rec, plain, _unseen(rec, "recursion", "map_full"))
    return [finding for finding in found if finding.verdict is Verdict.UNEXPLAINED]


def against_totals(rec: Recording) -> Iterator[Finding]:
    """Compare the rows with the exact totals, and those with what is reported as lost."""
    if "totals" not in rec.views:
        return
    parts = _parts(rec)
    losses = {(r["recording"], r["kind"]): r for r in _ask(rec, "books_losses", **parts)}
    sources = {source.name: source for source in rec.sources}
    unended = _after_totals(rec) if any(map(_not_ended, rec.sources)) else {}
    for row in _ask(rec, "books_totals", entries=_rows(rec), **parts):
        told = losses.get((row["recording"], row["kind"]), {})
        missing = row["counted"] - row["recorded"]
        behind = unended.get((row["recording"], row["kind"]), 0)
        why = _why_totals(sources[row["recording"]], row["kind"], missing, told, behind)
        if missing and not why and abs(missing) <= _at_removal(rec, row["recording"], row["kind"]):
            why = rules.REMOVED
        subject = row["kind"] if row["cause"] is None else f"{row['kind']}: {row['cause']}"
        yield Finding(
            row["recording"], "totals", subject, row["netns"], row["counted"], row["recorded"],
            verdict=_verdict(row["counted"] == row["recorded"], why), why=why,
        )  # fmt: skip
    for row in losses.values():
        difference = row["counted"] - row["recorded"]
        source = sources[row["recording"]]
        why = _not_ended(source)
        if difference < 0 and row["kind"] == "retransmits":
            why = why or rules.NOT_SENT
        if 0 < -difference <= row["map_full"]:
            why = rules.LOST.format(causes=row["causes"])
        unwritten = _told_lost(source, row["kind"]) - row["recorded"]
        if 0 < difference <= unwritten and _disk_full(source, "losses"):
            why = rules.LOSSES_LOST
        yield Finding(
            row["recording"], "losses", row["kind"], None, row["counted"], row["recorded"],
            verdict=_verdict(difference == 0, why), why=why if difference else "",
        )  # fmt: skip


def _verdict(equal: bool, why: str) -> Verdict:
    if equal:
        return Verdict.OK
    return Verdict.EXPLAINED if why else Verdict.UNEXPLAINED


def _not_ended(source: Source) -> str:
    if source.running:
        return rules.RUNNING
    return "" if source.state == "complete" else rules.KILLED


def _after_totals(rec: Recording) -> dict[tuple[str, str], int]:
    """Count by recording and kind what came when the totals had come for the last time.

    A recorder may be killed before they come for the first time.
    """
    sql = load("books_behind", entries=_rows(rec), margin=str(_BEHIND_NS))
    rows = rec.database.ask(sql).to_arrow_table().to_pylist()
    return {(row["recording"], row["kind"]): row["events"] for row in rows}


def _why_totals(source: Source, kind: str, missing: int, told: dict[str, Any], behind: int) -> str:
    if missing == 0:
        return ""
    if 0 < missing <= told.get("disk_full", 0) or 0 < -missing <= told.get("map_full", 0):
        return rules.LOST.format(causes=told["causes"])
    if 0 < missing <= _disk_full(source, kind):
        return rules.LOST.format(causes="disk full")
    if missing < 0 and _disk_full(source, "totals"):
        return rules.TOTALS_LOST
    if source.running:
        return rules.RUNNING
    return _not_ended(source) if 0 < -missing <= behind else ""


def _disk_full(source: Source, table: str) -> int:
    """Count the events or rows of a table that the manifest says a full disk cost.

    Where the disk had no room, or no inode, for the table of losses either, only that says it.
    """
    return source.manifest.losses.get(table, {}).get("disk_full", 0) if source.manifest else 0


def _told_lost(source: Source, kind: str) -> int:
    """Count what the manifest says of the losses that the table of losses is to have."""
    told = source.manifest.losses.get(kind, {}) if source.manifest else {}
    return sum(told.get(cause, 0) for cause in ("ring_full", "sampled"))


def _at_removal(rec: Recording, recording: str, kind: str) -> int:
    """Count events about the time up to which rows were removed to keep a disk budget."""
    for index, source in enumerate(rec.sources):
        if source.name == recording and source.complete_from is not None:
            stored = source.tables[kind]
            amount = events.amount(frozenset(stored.table.arrow_schema.names))
            near = f"abs(ts_ns - {source.complete_from}) <= {_MARGIN_NS}"
            sql = f"SELECT sum({amount})::BIGINT FROM r{index}.{name(kind)} WHERE {near}"
            ((found,),) = rec.connection.sql(sql).fetchall()
            return int(found or 0)
    return 0


def _prepare(rec: Recording, entries: str) -> None:
    lives = load("books_lives")
    trimmed = " UNION ALL ".join(
        f"SELECT {literal(s.name)} AS recording, {s.complete_from + 1}::BIGINT AS from_ns"
        for s in rec.sources
        if s.complete_from is not None
    )
    parts = {
        "lives": lives, "entries": entries, "margin": str(_MARGIN_NS),
        "trimmed": f"({trimmed or _NOT_TRIMMED})", "reading": str(_READING_NS),
        "longest": str(_LONGEST_READING_NS),
    }  # fmt: skip
    for file in ("books_windows", "books_counted", "books_entries"):
        rec.database.make(load(file, **parts))


def _ask(rec: Recording, file: str, **parts: str) -> list[dict[str, Any]]:
    return list(rec.database.ask(load(file, **parts)).to_arrow_table().to_pylist())


def _parts(rec: Recording) -> dict[str, str]:
    return {"totals": "totals", "losses": "losses" if "losses" in rec.views else _NO_LOSSES}


def _unseen(rec: Recording, *causes: str) -> dict[tuple[str, str], int]:
    """Count the losses that no namespace can be told of, by recording and kind.

    The kernel does not run a program that would interrupt itself, and counts that (`recursion`):
    such events are in no total either, nor are those for which the totals had no room (`map_full`).
    What a full disk cost (`disk_full`) was seen, and is in the totals.
    """
    rows = _ask(rec, "books_losses", **_parts(rec))
    found = {(r["recording"], r["kind"]): sum(r[cause] for cause in causes) for r in rows}
    if "disk_full" in causes:
        told = {(r["recording"], r["kind"]): r["disk_full"] for r in rows}
        for source in rec.sources:
            for kind in source.tables:
                key = (source.name, kind)
                more = max(_disk_full(source, kind) - told.get(key, 0), 0)
                found[key] = found.get(key, 0) + more
    return found


def _by_rules(
    rec: Recording, applied: Sequence[rules.Rule], unseen: dict[tuple[str, str], int]
) -> Iterator[Finding]:
    """Apply rules: all in one query, because each would take longer than its answer."""
    counters = ", ".join(
        f"({number}, {literal(counter)})"
        for number, rule in enumerate(applied)
        for counter in rule.counters
    )
    entries = " UNION ALL ".join(
        f"SELECT {number} AS rule, recording, netns, amount, lost, doubtful FROM books_entries "
        f"WHERE kind = {literal(rule.kind)} AND ({rule.where})"
        for number, rule in enumerate(applied)
    )
    rows = _ask(rec, "books_rules", counters=counters, entries=entries, second=str(_SECOND_NS))
    for number, rule in enumerate(applied):
        yield from _apply(rec, rule, [row for row in rows if row["rule"] == number], unseen)


def _apply(
    rec: Recording,
    rule: rules.Rule,
    rows: list[dict[str, Any]],
    unseen: dict[tuple[str, str], int],
) -> Iterator[Finding]:
    sources = {source.name: source for source in rec.sources}
    reasoned = _with_reasons(rec, rule) if rows else set()
    for row in rows:
        source = sources[row["recording"]]
        if rule.kind not in source.tables:
            continue
        difference = row["counted"] - row["recorded"] - row["lost"]
        verdict, why = Verdict.OK, ""
        if row["recording"] not in reasoned:
            verdict, why = Verdict.NOT_CHECKED, rules.NO_REASON
        elif difference or row["lost"]:
            lost = unseen.get((row["recording"], rule.kind), 0)
            why = _why(source, rule, difference - min(lost, max(difference, 0)), row)
            verdict = _verdict(False, why)
        yield Finding(
            row["recording"], "counters", rule.name, row["netns"], row["counted"],
            row["recorded"], row["lost"], verdict, why,
        )  # fmt: skip


def _why(source: Source, rule: rules.Rule, difference: int, row: dict[str, Any]) -> str:
    if difference == 0:
        return rules.LOST.format(causes="see losses")
    if abs(difference) <= row["doubtful"]:
        return rules.EDGE
    if difference < 0:
        return rule.less or (rules.SHORT if row["late"] else "")
    if rule.more:
        return rule.more
    if source.running:
        return rules.READING
    probes = source.manifest.probes if source.manifest else []
    notes = [p.note for p in probes if p.table == rule.kind and (p.note or not p.attached)]
    return rules.PROBE.format(note="; ".join(notes)) if notes else ""


def _with_reasons(rec: Recording, rule: rules.Rule) -> set[str]:
    """Return the recordings whose kernel has the reasons that a rule counts by: all in one query.

    There may be thousands of recordings.
    """
    if not rule.reasons or "reasons" not in rec.views:
        return {source.name for source in rec.sources}
    known = (
        "SELECT DISTINCT recording FROM reasons "
        f"WHERE name IN ({', '.join(map(literal, rule.reasons))})"
    )
    return {recording for (recording,) in rec.database.ask(known).fetchall()}


def _rows(rec: Recording) -> str:
    """Return the SQL of all recorded events, as entries of the books."""
    parts = []
    for table in rec.event_tables:
        view = rec.views[table]
        columns = frozenset(column.name for column in view.columns)
        cause = view.table.cause if view.table is not None else ""
        picked = {
            "kind": literal(table),
            "cause": f"{name(cause)}::VARCHAR" if cause in columns else "NULL::VARCHAR",
            "protocol": "protocol" if "protocol" in columns else "NULL::VARCHAR",
            "function": "function" if "function" in columns else "NULL::VARCHAR",
            "failed": "coalesce(error, 0) <> 0" if "error" in columns else "false",
            "amount": f"({events.amount(columns)})::BIGINT",
            "lost": "0::BIGINT",
            "width": "0::BIGINT",
            "spread": f"CASE WHEN weight > 1 THEN {_SAMPLING_NS} ELSE 0 END::BIGINT"
            if "weight" in columns
            else "0::BIGINT",
        }
        chosen = ", ".join(f"{sql} AS {column}" for column, sql in picked.items())
        parts.append(f"SELECT recording, netns, mono_ns, {chosen} FROM raw.{name(table)}")
    empty = "SELECT NULL::VARCHAR AS recording, NULL::BIGINT AS netns, NULL::BIGINT AS mono_ns, "
    empty += "NULL::VARCHAR AS kind, NULL::VARCHAR AS cause, NULL::VARCHAR AS protocol, "
    empty += "NULL::VARCHAR AS function, false AS failed, 0::BIGINT AS amount, 0::BIGINT AS lost, "
    return (
        " UNION ALL ".join(parts) or f"{empty} 0::BIGINT AS width, 0::BIGINT AS spread WHERE false"
    )


def _unrecorded(rec: Recording) -> str:
    # What one reading finds too few of, because a processor was counting, the next one has more.
    return (
        "SELECT recording, netns, mono_ns, kind, cause, protocol, function, false AS failed, "
        "0::BIGINT AS amount, events::BIGINT - recorded::BIGINT AS lost, "
        f"{_interval(rec)} AS width, {_interval(rec)} AS spread "
        "FROM totals WHERE events <> recorded"
    )


def _totals(rec: Recording) -> str:
    return (
        "SELECT recording, netns, mono_ns, kind, cause, protocol, function, false AS failed, "
        f"events AS amount, 0::BIGINT AS lost, {_interval(rec)} AS width, "
        f"{_interval(rec)} AS spread FROM totals"
    )


def _interval(rec: Recording) -> str:
    """Return the SQL of how long a row of the totals counted, which older recordings do not say.

    Where others needed the processors, the recorder's second may have been several.
    """
    second = f"{_SECOND_NS}::BIGINT"
    if "interval_ns" not in {column.name for column in rec.views["totals"].columns}:
        return second
    return f"greatest(coalesce(interval_ns::BIGINT, 0), {second})"
