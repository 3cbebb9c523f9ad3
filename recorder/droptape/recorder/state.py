"""What has to stay of old rows of tables that have a row for each change."""

from __future__ import annotations

import pyarrow as pa

from .sampling.changes import LIFE

_LISTENER = ["netns", "laddr", "lport", "inode"]
_COUNTER = ["netns", "device", "name"]
_ORDER = "order"


def _last(rows: pa.Table, keys: list[str]) -> pa.Table:
    """Return the last row of each key by time; of rows with one time, the later in the table."""
    numbered = rows.append_column(_ORDER, pa.array(range(rows.num_rows), pa.int64()))
    ordered = numbered.sort_by([("ts_ns", "ascending"), (_ORDER, "ascending")])
    ordered = ordered.set_column(
        ordered.column_names.index(_ORDER), _ORDER, pa.array(range(rows.num_rows), pa.int64())
    )
    last = ordered.group_by(keys).aggregate([(_ORDER, "max")])
    return ordered.take(last[f"{_ORDER}_max"]).drop_columns([_ORDER])


def listeners_left(rows: pa.Table) -> pa.Table:
    """Return the last row of each listening socket that is still open."""
    last = _last(rows, _LISTENER)
    return last.filter(last["open"])


def counters_left(rows: pa.Table) -> pa.Table:
    """Return the last value of each counter, of namespaces and devices that are still there.

    `netns.life` has a row at the begin and one at the end of a namespace, with a number that tells
    it from earlier ones. A counter of a device is 0 when the device went; one that moves after that
    has another row of 0 first (sampling/changes.py).
    """
    import pyarrow.compute as pc  # 9 MB that most recordings have no use for

    is_life = pc.equal(rows["name"], LIFE[0])
    lives = rows.filter(is_life)
    newest = lives.group_by(["netns"]).aggregate([("value", "max")])
    ended: list[int] = []
    for netns, life in zip(*(newest[c].to_pylist() for c in ("netns", "value_max")), strict=True):
        same = pc.and_(pc.equal(lives["netns"], netns), pc.equal(lives["value"], life))
        if lives.filter(same).num_rows > 1:
            ended.append(netns)
    # Counters of the whole host belong to no namespace: null, which is in no list.
    over = pc.is_in(rows["netns"], pa.array(ended, rows["netns"].type))
    last = _last(rows.filter(pc.invert(over)), _COUNTER)
    went = pc.and_(pc.not_equal(last["device"], ""), pc.equal(last["value"], 0))
    return last.filter(pc.invert(pc.fill_null(went, False)))
