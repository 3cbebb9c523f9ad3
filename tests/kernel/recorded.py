"""Asking a recording that is still being written."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from droptape.analyze import open_recording
from droptape.bpf.kinds import all_kinds
from droptape.format.layout import being_recorded
from droptape.format.manifest import Manifest, Probe
from lab import Host
from lab.recorder import Recorder

NO_SOCKET = """coalesce(reason = 'NO_SOCKET', function IN (
    'tcp_v4_rcv', 'tcp_v6_rcv', '__udp4_lib_rcv', '__udp6_lib_rcv'))"""
"""Drops because nobody has the port; where the kernel gives no reasons, by the location."""

NETFILTER = """coalesce(reason = 'NETFILTER_DROP', function IN ('nft_do_chain', 'nf_hook_slow'))"""
"""The same for packets that a firewall rule drops."""

_DRAIN_S = 0.3
"""The recorder empties its rings every 0.1 s."""

_SLOW_START_S = 5.0
"""A start takes longer than this on emulated processors only."""

_SECOND_S = 1.2
"""Totals and names are written once a second."""


def ask(recorder: Recorder, sql: str, *, totals: bool = False) -> list[tuple[Any, ...]]:
    """Return the rows of a query, with everything in it that has happened so far.

    On a busy machine the recorder may come late, so nothing must have been written for a while.
    Where something is written all the time, or the machine is slow, the answer has to stay the
    same.

    Args:
        recorder: A running or ended recorder.
        sql: One SELECT.
        totals: Wait for the totals of the current second too.
    """
    # How long the start took tells how slow this machine is.
    slow = recorder.seconds_to_ready > _SLOW_START_S
    pause = _SECOND_S if totals else min(max(_DRAIN_S, recorder.seconds_to_ready / 4), _SECOND_S)
    before: list[tuple[Any, ...]] | None = None
    size = _written(recorder)
    for turn in range(20):
        time.sleep(pause)
        last, size = size, _written(recorder)
        quiet = size == last and not (totals or slow)
        done = quiet or not being_recorded(recorder.folder)
        if not (done or totals or slow or turn > 1):
            continue
        with open_recording(recorder.folder) as recording:
            rows = recording.sql(sql).fetchall()
        if done or rows == before:
            return rows
        before = rows
    raise AssertionError(f"the answer keeps changing: {rows}")


def _written(recorder: Recorder) -> int:
    """Return the size of the journals of events."""
    size = 0
    for kind in all_kinds():
        for path in recorder.folder.glob(f"{kind}/*.journal"):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
    return size


def probe(recorder: Recorder, name: str) -> Probe:
    """Return what the recording says of one of its hooks."""
    (found,) = [p for p in Manifest.read(recorder.folder).probes if p.name == name]
    return found


def reason(recorder: Recorder, name: str, *, hook: str = "drops/kfree_skb") -> str | None:
    """Return the reason that the kernel under test gives where a newest one says `name`.

    A kernel that gives no reasons there says nothing, and the hook's note must admit it.
    """
    enum = "skb_drop_reason" if hook == "drops/kfree_skb" else "sk_rst_reason"
    names = {row[0] for row in ask(recorder, f"SELECT name FROM reasons WHERE enum = '{enum}'")}
    if "no reasons" in probe(recorder, hook).note:
        assert not names
        return None
    return name if name in names else "NOT_SPECIFIED"


def one(recorder: Recorder, sql: str, *, totals: bool = False) -> Any:
    """Return the only value of a query."""
    ((value,),) = ask(recorder, sql, totals=totals)
    return value


def rows_of(recorder: Recorder, host: Host, columns: str) -> list[tuple[Any, ...]]:
    """Return these columns of a host's connections, in the order of their ends."""
    sql = f"SELECT {columns} FROM connections WHERE {of(host)} ORDER BY mono_ns"
    return ask(recorder, sql)


def row_of(recorder: Recorder, host: Host, columns: str = "*") -> dict[str, Any]:
    """Return the only connection of a host, by column."""
    time.sleep(_DRAIN_S)
    with open_recording(recorder.folder) as recording:
        found = recording.sql(f"SELECT {columns} FROM connections WHERE {of(host)}")
        names = [column[0] for column in found.description]
        (row,) = found.fetchall()
    return dict(zip(names, row, strict=True))


def of(host: Host) -> str:
    """Return the condition for the events of a host."""
    return f"netns = {host.inum} AND mono_ns > {host.since_ns}"
