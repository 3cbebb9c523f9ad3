"""The kernel's text files of counters. Every function takes bytes, as read, and does no I/O."""

from __future__ import annotations

from functools import lru_cache

Key = tuple[str, str]
"""Name of a counter, and its device or ""."""

Reading = tuple[tuple[Key, ...], list[int]]
"""Keys and values. Readings of the same counters have the same tuple of keys, as an object."""

_CONNTRACK = frozenset(
    ("invalid", "insert_failed", "drop", "early_drop", "error", "icmp_error", "search_restart",
     "clash_resolve", "chaintoolong")
)  # fmt: skip
_LINK = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo", "rx_frame", "rx_compressed",
    "rx_multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped", "tx_fifo",
    "tx_collisions", "tx_carrier", "tx_compressed",
)  # fmt: skip
_LINK_KEPT = tuple(
    i for i, name in enumerate(_LINK)
    if name.split("_")[1] not in ("bytes", "multicast", "compressed")
)  # fmt: skip
FOLLOWERS = frozenset(("link.rx_packets", "link.tx_packets"))
"""What is of interest only beside another counter of the same device."""


def _lines(text: bytes) -> list[bytes]:
    """Return the lines; the kernel ends them by a newline and by nothing else."""
    return [line for line in text.split(b"\n") if line]


@lru_cache(maxsize=64)
def _pair_keys(heads: tuple[bytes, ...]) -> tuple[Key, ...]:
    keys: list[Key] = []
    for head in heads:
        group, *names = head.decode().split()
        keys += [(f"{group[:-1]}.{name}", "") for name in names]
    return tuple(keys)


def pairs(text: bytes) -> Reading:
    """Read /proc/net/netstat or snmp: a line of names, then a line of values, for each group."""
    lines = _lines(text)
    values: list[int] = []
    for line in lines[1::2]:
        values += map(int, line.split()[1:])
    return _pair_keys(tuple(lines[::2])), values


@lru_cache(maxsize=64)
def _snmp6_keys(names: tuple[bytes, ...]) -> tuple[Key, ...]:
    split = [name.decode().partition("6") for name in names]
    return tuple((f"{group}6.{rest}", "") for group, _, rest in split)


def snmp6(text: bytes) -> Reading:
    """Read /proc/net/snmp6, lines such as ``Udp6NoPorts 3``, as ``Udp6.NoPorts``."""
    fields = text.split()
    return _snmp6_keys(tuple(fields[::2])), list(map(int, fields[1::2]))


@lru_cache(maxsize=4096)
def _link_keys(device: str) -> tuple[Key, ...]:
    return tuple((f"link.{_LINK[i]}", device) for i in _LINK_KEPT)


def link(text: bytes) -> Reading:
    """Read /proc/net/dev, without bytes."""
    keys: list[Key] = []
    values: list[int] = []
    for line in _lines(text)[2:]:
        device, _, numbers = line.rpartition(b":")
        fields = numbers.split()
        keys += _link_keys(device.strip().decode("utf-8", "backslashreplace"))
        values += [int(fields[i]) for i in _LINK_KEPT]
    return tuple(keys), values


_SOFTNET: tuple[Key, ...] = (("softnet.dropped", ""), ("softnet.time_squeeze", ""))


def softnet(text: bytes) -> Reading:
    """Read /proc/net/softnet_stat: one line of hexadecimal numbers per CPU, added up here."""
    lines = [line.split() for line in _lines(text)]
    return _SOFTNET, [sum(int(line[i], 16) for line in lines) for i in (1, 2)]


def conntrack(text: bytes) -> Reading:
    """Read /proc/net/stat/nf_conntrack: a line of names, then one of hexadecimal per CPU."""
    head, *lines = _lines(text)
    rows = [[int(field, 16) for field in line.split()] for line in lines]
    names = head.decode().split()
    keys: list[Key] = [("conntrack.count", "")]
    values = [rows[0][0] if rows else 0]  # `entries` is the whole table's, in every line
    for i, name in enumerate(names):
        if name in _CONNTRACK:
            keys.append((f"conntrack.{name}", ""))
            values.append(sum(row[i] for row in rows))
    return tuple(keys), values
