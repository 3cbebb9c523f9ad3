"""What of a namespace's counters goes into the recording: the values that changed."""

from __future__ import annotations

from collections.abc import Iterator

from .parse import FOLLOWERS, Key, Reading

LIFE: Key = ("netns.life", "")
_RISING = frozenset((("Ip.InReceives", ""), ("Ip.OutRequests", "")))

Row = tuple[int, str, str, int]
"""mono_ns, device, name, value."""


class Changes:
    """Remembers the counters of one namespace.

    The first row of a counter is its baseline. One that is 0 at first gets that row only when it
    first changes, with the time of the first reading: most counters are 0 for ever.

    Devices come and go. A counter of one that went has a last row of 0 and is forgotten, and so is
    one that was set back to 0: should it move again, it has a baseline of 0 before that. So rows
    that end with 0 say nothing that is not true without them (state.py).
    """

    def __init__(self, life: int, born_ns: int | None) -> None:
        """Begin.

        Args:
            life: tells this namespace from earlier ones of the same number.
            born_ns: when it was seen not to exist yet; None for one that existed before.
        """
        self._life = life
        self._first_ns = born_ns
        self._ends_ns = born_ns or 0
        self._last_began_ns = born_ns or 0
        self._last: dict[str, Reading] = {}
        self._values: dict[Key, int] = {}
        self._written: set[Key] = set()
        self._since: dict[Key, int] = {}
        self._missed: dict[str, frozenset[Key]] = {}

    def begin(self, before_ns: int) -> list[Row]:
        """Return the row that marks the begin; call it after the first reading.

        Args:
            before_ns: a time before the first reading.
        """
        self._first_ns = before_ns if self._first_ns is None else self._first_ns
        return [(self._first_ns, LIFE[1], LIFE[0], self._life)]

    @property
    def ends_ns(self) -> int:
        """When everything was last read."""
        return self._ends_ns

    def is_another(self, reading: Reading) -> bool:
        """Say whether a reading is of another namespace, which has got this one's number."""
        return any(
            value < self._values.get(key, 0)
            for key, value in zip(*reading, strict=True)
            if key in _RISING
        )

    def touch(self, began_ns: int, now_ns: int) -> None:
        """Note that everything was read from `began_ns` to `now_ns`, whether or not it changed."""
        self._last_began_ns, self._ends_ns = began_ns, now_ns

    def end(self) -> list[Row]:
        """Return the row that marks when the last reading began.

        What changed since the one before has rows of the time when it was read: until then from
        here, it cannot be told what the reading has.
        """
        return [(self._last_began_ns, LIFE[1], LIFE[0], self._life)]

    def update(self, group: str, reading: Reading, now_ns: int) -> list[Row]:
        """Return the rows for a new reading of `group`, the counters of one file."""
        last = self._last.get(group)
        if last is not None and last[1] == reading[1] and last[0] == reading[0]:
            return []
        self._last[group] = reading
        rows: list[Row] = []
        if last is not None and (last[0] != reading[0] or self._missed.get(group)):
            rows += self._came_and_went(group, frozenset(last[0]), frozenset(reading[0]), now_ns)
        changed = list(self._changed(last, reading))
        moved = {key[1] for key, _ in changed if key[0] not in FOLLOWERS}
        for key, value in changed:
            if last is not None and key[0] in FOLLOWERS and key[1] not in moved:
                continue
            if key not in self._written:
                self._written.add(key)
                since = self._since.get(key, self._first_ns)
                if since is not None:
                    rows.append((since, key[1], key[0], self._values.get(key, 0)))
            self._values[key] = value
            rows.append((now_ns, key[1], key[0], value))
            if key[1] and not value:
                self._forget(key)
                self._since[key] = now_ns
        return rows

    def _came_and_went(
        self, group: str, before: frozenset[Key], after: frozenset[Key], now_ns: int
    ) -> Iterator[Row]:
        """Forget the counters of devices that went; yield their last rows.

        A device is gone when two readings miss it: one may leave out a device that is there, when
        another one goes in the midst of it.
        """
        missed = self._missed.get(group, frozenset())
        for key in missed - after:
            if key in self._written:
                yield now_ns, key[1], key[0], 0
            self._forget(key)
        self._missed[group] = frozenset(key for key in before - after if key[1])
        for key in after - before - missed:
            if key[1]:
                # It was not there when all was last read, and came with 0.
                self._since[key] = max(self._ends_ns, self._first_ns or 0)

    def _forget(self, key: Key) -> None:
        self._written.discard(key)
        self._values.pop(key, None)
        self._since.pop(key, None)

    def _changed(self, last: Reading | None, reading: Reading) -> Iterator[tuple[Key, int]]:
        keys, values = reading
        if last is not None and last[0] is keys:
            for key, value, old in zip(keys, values, last[1], strict=True):
                if value != old:
                    yield key, value
            return
        for key, value in zip(keys, values, strict=True):
            if value != self._values.get(key, 0):
                yield key, value
