"""The comparison in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from droptape.analyze.render.words import duration, rate

from .change import Change, Verdict
from .counts import Side
from .settings import Setting

_UNITS = {"second": "per second", "connection": "per connection", "segment": "per million segments"}
_LEADING = {"reason": "", "cause": "", "function": "in ", "owner": "of ", "port": "at port "}
_BURSTY = 2.0
_UNLIKE = 2.0
_LEAST = 0.001


def subject(change: Change) -> str:
    """Name what changed, such as ``drops NETFILTER_DROP in nft_do_chain``."""
    words = [change.kind]
    for column, value in change.values.items():
        if value is None:
            continue
        words.append(_LEADING.get(column, f"{column} ") + value)
    return " ".join(words)


def amounts(change: Change) -> str:
    """Say the rates, such as ``0 before, 12.3 per second after``."""
    old, new = change.rates.get(change.per, (float(change.before), float(change.after)))
    return f"{rate(old)} before, {rate(new)} after, {_UNITS[change.per]}"


def times(ratio: float | None) -> str:
    """Return a rate ratio: 3.2x; ∞ from zero."""
    if ratio is None:
        return "-"
    if math.isinf(ratio):
        return "∞"
    if ratio == 0:
        return "0"
    if ratio < _LEAST:
        return f"<{_LEAST}x"
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def sentence(changes: Sequence[Change]) -> str:
    """Return the verdict: the gravest change, and how many there are of each kind."""
    counts = {v: sum(c.verdict is v for c in changes) for v in Verdict}
    found = [v for v in Verdict if v is not Verdict.SAME and counts[v]]
    if not changes:
        return "Nothing to compare: neither recording has events."
    if not found:
        several = f"{len(changes)} causes were" if len(changes) > 1 else "one cause was"
        return f"No difference: {several} compared, and chance explains what differs."
    bad = counts[Verdict.NEW] + counts[Verdict.WORSE]
    good = counts[Verdict.GONE] + counts[Verdict.BETTER]
    head = "Worse and better" if bad and good else "Worse" if bad else "Better"
    first = next(c for c in changes_by_gravity(changes) if c.verdict is found[0])
    text = f"{head}: {subject(first)} is {first.verdict.value} ({amounts(first)})"
    if not first.sure:
        text += ", but it came in so few bursts that chance could be the reason"
    listing = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
    return f"{text}. In all: {listing}."


def changes_by_gravity(changes: Sequence[Change]) -> list[Change]:
    """Sort by how far the rates are apart, sure ones first."""

    def distance(change: Change) -> float:
        old, new = change.rates.get(change.per, (float(change.before), float(change.after)))
        return abs(new - old)

    return sorted(changes, key=lambda c: (not c.sure, -distance(c)))


def notes(
    before: Side,
    after: Side,
    changes: Sequence[Change],
    benign: tuple[int, int],
    lost: tuple[dict[str, int], dict[str, int]],
    settings: Sequence[Setting],
    per: str,
) -> list[str]:
    """Say what a reader has to know about the comparison."""
    said = [f"Before: {_side(before)}. After: {_side(after)}."]
    said += _traffic(before, after, changes, per)
    kernels = next((s for s in settings if (s.what, s.name) == ("host", "kernel")), None)
    if kernels:
        said.append(
            f"The kernels differ ({kernels.before}, {kernels.after}): reasons and functions are "
            "compared by name, and a cause may have another name on the other kernel."
        )
    for one, other, name in ((before, after, "after"), (after, before, "before")):
        missing = [kind for kind in one.kinds if kind not in other.kinds]
        if missing:
            said.append(f"Not recorded {name}, so not compared: {', '.join(missing)}.")
    for setting in settings:
        if setting.what == "recorder":
            said.append(
                f"The probe {setting.name} differs (before: {setting.before or 'none'}, after: "
                f"{setting.after or 'none'}): what it sees cannot be compared."
            )
    said += _uncertain(before, after, changes, lost)
    if any(benign):
        said.append(
            f"Apart from these, drops that healthy systems have: {benign[0]:,} before "
            f"({rate(benign[0] / before.seconds if before.seconds else None)} per second), "
            f"{benign[1]:,} after ({rate(benign[1] / after.seconds if after.seconds else None)})."
        )
    return said


def _side(side: Side) -> str:
    text = f"{duration(side.seconds)}" if side.seconds else "duration unknown"
    if side.segments is not None:
        text += f", {side.segments:,} TCP segments"
    if side.connections is not None:
        text += f", {side.connections:,} connections"
    return text


def _traffic(before: Side, after: Side, changes: Sequence[Change], per: str) -> list[str]:
    used = sorted({c.per for c in changes})
    if before.segments is None or after.segments is None:
        missing = [n for n, s in (("before", before), ("after", after)) if s.segments is None]
        return [f"The traffic was not recorded {' and '.join(missing)}: rates per second only."]
    said = []
    if min(before.segments, after.segments) == 0 < max(before.segments, after.segments):
        idle = "before" if before.segments == 0 else "after"
        said.append(f"There was no TCP traffic {idle}: what is gone or new may be the load itself.")
    old, new = before.exposure("segment"), after.exposure("segment")
    if old and new and before.seconds and after.seconds:
        ratio = (new / after.seconds) / (old / before.seconds)
        if not 1 / _UNLIKE < ratio < _UNLIKE:
            said.append(f"Segments per second differ: {times(ratio)} after.")
    if per == "auto" and used and used != ["second"]:
        said.append(f"Compared {', '.join(_UNITS[p] for p in used)} (column per).")
    return said


def _uncertain(
    before: Side,
    after: Side,
    changes: Sequence[Change],
    lost: tuple[dict[str, int], dict[str, int]],
) -> list[str]:
    said = []
    for name, side, missing in (("Before", before, lost[0]), ("After", after, lost[1])):
        if missing:
            listing = ", ".join(f"{count:,} {what}" for what, count in missing.items())
            how = (
                "counts of owners, ports and the like are scaled up to the exact totals"
                if side.estimated
                else "the counts here are the kernel's exact totals, which miss none of them"
                if not any(what.endswith("(map full)") for what in missing)
                else "the totals miss those of a full map"
            )
            said.append(f"{name}, these have no rows: {listing}; {how}.")
    sampled = max(
        (c.weight for s in (before, after) for k, c in s.counts.items() if not k[2]), default=1.0
    )
    if sampled > 1.5 and any("sampled" in what for part in lost for what in part):
        said.append(f"Rows were sampled (a row stands for up to {sampled:.0f} events): "
                    "intervals are wider for it.")  # fmt: skip
    bursty = max((c.dispersion for c in changes if c.before + c.after >= 10), default=1.0)
    if bursty >= _BURSTY:
        said.append(
            f"Events come in bursts: per second they vary up to {bursty:,.0f} times as much as "
            "independent ones would, and intervals are wider for it (quasi-Poisson)."
        )
    few = sum(0 < c.before + c.after < 10 for c in changes)
    if few:
        said.append(f"{few} with fewer than 10 events in both together: too few for a verdict.")
    return said
