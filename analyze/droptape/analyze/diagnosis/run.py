"""Asking a recording what the rules ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from droptape.analyze.engine import literal, name
from droptape.analyze.errors import QueryError
from droptape.analyze.info import RecordingInfo
from droptape.analyze.render.words import offset
from droptape.analyze.source import Source
from droptape.analyze.sqlfiles import load
from droptape.format.common import COMMON
from droptape.format.schema import Table
from droptape.format.tables import TABLES
from droptape.format.types import ADDRESS, MONO

from .findings import SEVERITIES, Check, Diagnosis, Finding, Status, Step
from .places import Places
from .rules import Rule, RuleError
from .text import Made, Paragraph, fill

if TYPE_CHECKING:
    from droptape.analyze.recording import Recording

_SAMPLED = ("counters", "listeners", "sysctls")
"""Tables that have rows in every recording; without any, they were not recorded."""

_MINUTE_NS = 60_000_000_000
_REQUIRED = ("severity", "events")
_MADE = ("owner", "others", "since", "until", "in_ns", "place", "drop_place")


def diagnose(rec: Recording, rules: Iterable[Rule]) -> Diagnosis:
    """See `Recording.diagnose`."""
    info = rec.info()
    findings: list[Finding] = []
    checks: list[Check] = []
    rules = list(rules)
    covered = [reason for rule in rules for reason in rule.covers]
    for source, one in zip(rec.sources, info.recordings, strict=True):
        part = _alone(rec, source)
        try:
            asking = _Asking(part, source, one, covered)
            for rule in rules:
                found, status, why = asking.check(rule)
                findings += found
                checks.append(Check(rule.id, rule.title, source.name, status, rule.healthy, why))
            if asking.failures and not asking.answers:
                raise asking.failures[0]
        finally:
            if part is not rec:
                part.close()
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), -f.events, f.id, f.title))
    return Diagnosis(info, findings, checks)


def _alone(rec: Recording, source: Source) -> Recording:
    """Return what is cheapest to ask about one of the recordings; `rec` itself if need be."""
    origin = None if rec.database.remote else rec.origin.part(source)
    return rec if origin is None else type(rec)(origin, rec.window, rec.settings)


@dataclass
class _Asking:
    """One recording being asked.

    Attributes:
        covered: drop reasons that some rule explains, or "REASON in FUNCTION".
        answers: how many rules could be asked.
        failures: what the others raised.
    """

    rec: Recording
    source: Source
    info: RecordingInfo
    covered: list[str]
    answers: int = 0
    failures: list[RuleError] = field(default_factory=list)
    _places: Places = field(init=False)
    _lost: dict[str, dict[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._places = Places(self.rec, self.source)
        self._lost = self._losses()

    def check(self, rule: Rule) -> tuple[list[Finding], Status, str]:
        """Ask what `rule` asks; return findings, what became of it, and why."""
        why = self._missing(rule)
        if why:
            return [], "not checked", why
        try:
            rows = self._rows(rule)
        except (QueryError, duckdb.Error) as exc:
            explained = self.rec.explain(exc) if isinstance(exc, duckdb.Error) else exc
            if isinstance(exc.__cause__ or exc, duckdb.BinderException):
                return [], "not checked", f"this recording lacks a column: {explained}"
            failure = RuleError(f"rule {rule.id}: {explained}")
            if not _only_here(rule, exc.__cause__ or exc):
                raise failure from exc
            self.failures.append(failure)
            return [], "not checked", f"the rule failed: {explained}"
        self.answers += 1
        notes = self._doubts(rule)
        findings = [self._finding(rule, row, notes) for row in rows]
        if findings:
            return findings, "found", ""
        return [], "partly" if notes else "healthy", " ".join(notes)

    def _missing(self, rule: Rule) -> str:
        for need in rule.needs:
            table, _, column = need.partition(".")
            stored = self.source.tables.get(table)
            if stored is None or (table in _SAMPLED and not stored.rows):
                return f"this recording has no {table}"
            if column and column in [c.name for c in stored.table]:
                enum = stored.table[column].enum
                if enum is not None and enum.kernel and not enum.values:
                    return f"this kernel gives no reasons for {table}"
        return ""

    def _doubts(self, rule: Rule) -> tuple[str, ...]:
        """Say why there may be more than was recorded."""
        doubts: list[str] = []
        for table in rule.tables:
            lost = self._lost.get(table, {})
            missing = sum(events for cause, events in lost.items() if cause != "sampled")
            if missing:
                doubts.append(
                    f"{missing:,} events of {table} could not be recorded: "
                    "numbers are lower bounds."
                )
            if lost.get("sampled"):
                doubts.append(f"Rows of {table} are a sample: numbers are estimates.")
        doubts += [
            f"Not watched: {probe.name}{f' ({probe.note})' if probe.note else ''}."
            for probe in self.info.missing_probes
            if probe.table in rule.tables
        ]
        return tuple(doubts)

    def _losses(self) -> dict[str, dict[str, int]]:
        if "losses" not in self.source.tables:
            return self.info.losses
        found: dict[str, dict[str, int]] = {}
        sql = (
            "SELECT kind, cause, sum(events)::BIGINT AS events FROM losses "
            f"WHERE recording = {literal(self.source.name)} GROUP BY kind, cause"
        )
        for kind, cause, events in self.rec.database.ask(sql).fetchall():
            found.setdefault(kind, {})[cause] = events
        return found

    def _rows(self, rule: Rule) -> list[dict[str, Any]]:
        """Run the rule's query over the tables of this recording only."""
        parts = {table: self._table(table) for table in (*rule.tables, *rule.helps)}
        if "sysctls" in parts:
            parts["settings"] = load("diagnosis_settings")
        if "counters" in parts:
            parts["growth"] = load("diagnosis_growth")
        if {"retransmits", "drops"} <= parts.keys():
            parts["translated"] = load("translated", retransmits="retransmits", drops="drops")
            parts["flow_drops"] = load("diagnosis_flow_drops")
        pairs = [part.partition(" in ")[::2] for part in (*self.covered, "")]
        covered = ", ".join(f"({literal(reason)}, {literal(code)})" for reason, code in pairs)
        parts["covered"] = f"SELECT * FROM (VALUES {covered}) AS listed(reason, function)"
        parts["span"] = f"SELECT greatest({self.info.seconds}, 1)::DOUBLE AS seconds"
        tables = ", ".join(f"{name(table)} AS ({sql})" for table, sql in parts.items())
        ask = self.rec.database.ask if rule.own else self.rec.sql
        sql = f"WITH {tables} SELECT * FROM (\n{rule.query}\n)"
        relation = ask(sql, params=rule.parameters or None)
        columns = {*relation.columns, *_MADE}
        for needed in (*_REQUIRED, *rule.names()):
            if needed not in columns:
                raise RuleError(f"rule {rule.id}: the query gives no column {needed}")
        return list(relation.to_arrow_table().to_pylist())

    def _table(self, table: str) -> str:
        if table in self.source.tables:
            minute = f", (epoch_ns(ts) - {self.info.started_ns or 0}) // {_MINUTE_NS} AS minute"
            timed = any(column.type is MONO for column in self.source.tables[table].table)
            return (
                f"SELECT *{minute if timed else ''} FROM raw.{name(table)} "
                f"WHERE {self.rec.origin.only(self.source)}"
            )
        # Of a kind of event that was not recorded only the columns that all have are known.
        return _nothing(TABLES.get(table, Table(table, "", COMMON)), self.rec.origin.address)

    def _finding(self, rule: Rule, row: Mapping[str, Any], notes: tuple[str, ...]) -> Finding:
        if row["severity"] not in SEVERITIES:
            raise RuleError(
                f"rule {rule.id}: severity is {row['severity']!r}, not one of "
                f"{', '.join(SEVERITIES)}"
            )
        values = {**row, **self._made(row)}
        # Said where a finding tells what happened, not where it explains and advises.
        contained = values["owner"] + self._places.container(row.get("owner_pid"))
        told = {**values, "owner": contained}

        def texts(part: tuple[Paragraph, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
            return tuple(fill(p.text, values) for p in part if p.counts(values))

        def steps(part: tuple[Paragraph, ...]) -> tuple[Step, ...]:
            return tuple(
                Step(fill(p.text, values), tuple(fill(c, values, "command") for c in p.commands))
                for p in part
                if p.counts(values)
            )

        return Finding(
            id=rule.id, severity=row["severity"], title=" ".join(texts(rule.headline, told)),
            recording=self.source.name, netns=row.get("netns"), events=int(row["events"]),
            since_ns=row.get("since_ns"), until_ns=row.get("until_ns"),
            evidence=texts(rule.evidence, told), query=_with_nulls(fill(rule.look, values, "sql")),
            meaning=" ".join(texts(rule.meaning, values)), remedy=steps(rule.remedy),
            proof=_joined(steps(rule.proof)),
            notes=notes, values=dict(row),
        )  # fmt: skip

    def _made(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that every rule may use beside its columns."""
        start = self.info.started_ns or 0
        comm, pid = row.get("owner_comm"), row.get("owner_pid")
        owner = f"{comm}[{pid}]" if comm and pid is not None else comm or "an unknown process"
        more = (row.get("owners") or 1) - 1
        others = f" and {more:,} other process{'es' if more > 1 else ''}" if more > 0 else ""
        in_ns, place = self._places.namespace(row.get("netns"))
        drop_netns = row.get("drop_netns")
        _, drop_place = self._places.namespace(drop_netns)
        if drop_netns is not None and not drop_place:
            drop_place = " in the network namespace of the host"
        return {
            "owner": owner,
            "others": Made(others),
            "since": offset(row.get("since_ns"), start),
            "until": offset(row.get("until_ns"), start),
            "in_ns": Made(in_ns),
            "place": Made(place),
            "drop_place": Made(drop_place),
        }


def _only_here(rule: Rule, exc: BaseException) -> bool:
    """Say whether the other rules can go on: it is the data, not the machine or a new rule."""
    if isinstance(exc, duckdb.OutOfMemoryException | duckdb.InterruptException):
        return False
    return isinstance(exc, duckdb.Error if rule.own else duckdb.DataError)


def _joined(steps: tuple[Step, ...]) -> Step:
    commands = tuple(command for step in steps for command in step.commands)
    return Step(" ".join(step.text for step in steps), commands)


def _with_nulls(sql: str) -> str:
    return sql.replace("= NULL", "IS NULL")


def _nothing(table: Table, address: str) -> str:
    columns = [
        f"NULL::{address if column.type is ADDRESS else view.type} AS "
        f"{name(view.name.format(name=column.name))}"
        for column in table
        for view in column.type.view
    ]
    return f"SELECT {', '.join(columns)}, NULL::BIGINT AS minute WHERE false"
