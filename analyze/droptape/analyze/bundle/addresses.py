"""Replacing addresses so that those of one network stay in one network.

As in Crypto-PAn (Xu, Fan, Ammar, Moon 2002), every bit is kept or turned depending on the bits
before it and on a key: two addresses share as long a prefix after as before. The bits that depend
on the prefix of one byte come from one keyed hash: an address costs as many hashes as it has bytes.

What says what kind of an address it is stays: loopback, private, link-local, multicast and
unspecified ones are known again. Only what follows is replaced, and not where nothing would be left
to hide. Ordinary addresses next to such ranges keep their first bits for that reason.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

_MAPPED = b"\0" * 10 + b"\xff\xff"
_KEPT = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/8", "64:ff9b::/96", "fc00::/7", "fe80::/10",
    "ff00::/12", "ff01::/16", "ff02::/16", "ff05::/16",
)  # fmt: skip
"""Ranges whose prefix stays."""
_SAME = ("0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/24", "255.255.255.255/32", "::/127", "ff02::/120")
"""Ranges in which addresses stay as they are: the same on every host."""


class Addresses:
    """Replaces addresses, stored as 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(b"addresses", key=key, digest_size=32).digest()
        self._turned = lru_cache(maxsize=1 << 18)(self._make_turned)

    def __call__(self, address: bytes) -> bytes:
        """Return the address that stands for `address` (16 bytes; IPv4 mapped)."""
        four = address.startswith(_MAPPED)
        raw = address[12:] if four else address
        if _within(raw, _SAME):
            return address
        out = 0
        for at, byte in enumerate(raw):
            prefix = raw[:at]
            turned = self._turned(prefix, four)
            before = int.from_bytes(prefix, "big")
            for depth in range(8):
                known = byte >> (8 - depth)
                bit = byte >> (7 - depth) & 1
                if (four, 8 * at + depth, before << depth | known) not in _FIXED:
                    bit ^= turned >> ((1 << depth) - 1 + known) & 1
                out = out << 1 | bit
        changed = out.to_bytes(len(raw), "big")
        return _MAPPED + changed if four else changed

    def _make_turned(self, prefix: bytes, four: bool) -> int:
        """Return a bit for each beginning of the byte after `prefix`: it turns the next one."""
        label = (b"4" if four else b"6") + prefix
        return int.from_bytes(hashlib.blake2b(label, key=self._key, digest_size=32).digest(), "big")


def _network(text: str) -> tuple[bool, int, int]:
    network: IPv4Network | IPv6Network = ip_network(text)
    return network.version == 4, int(network.network_address), network.prefixlen


def _beginnings(text: str) -> set[tuple[bool, int, int]]:
    four, start, bits = _network(text)
    width = 32 if four else 128
    return {(four, length, start >> (width - length)) for length in range(bits)}


_FIXED = frozenset().union(*map(_beginnings, _KEPT))
"""Beginnings of the ranges whose prefix stays: version, length, bits. The next bit stays too."""


@lru_cache(maxsize=8)
def _same(texts: tuple[str, ...]) -> tuple[tuple[bool, int, int], ...]:
    return tuple(map(_network, texts))


def _within(raw: bytes, texts: tuple[str, ...]) -> bool:
    width = 8 * len(raw)
    number = int.from_bytes(raw, "big")
    return any(
        version == (width == 32) and number >> (width - bits) == start >> (width - bits)
        for version, start, bits in _same(texts)
    )
