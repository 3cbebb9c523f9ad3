"""Stable pseudonyms: the same name and key give the same pseudonym, in every bundle."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from functools import lru_cache
from pathlib import Path

from droptape.analyze.errors import QueryError

KEY_BYTES = 32
_LEAST = 16
_MOST = 64
_KERNEL = re.compile(r"(swapper|ksoftirqd|migration)/\d{1,4}")
_SLICES = frozenset(
    {"system.slice", "user.slice", "machine.slice", "init.scope", "kubepods.slice", "kubepods",
     "docker", "lxc", "lxc.payload"}
)  # fmt: skip
_UNIT = re.compile(r".*(\.(?:slice|scope|service|socket|mount))", re.DOTALL)
_SETTING = re.compile(r"(net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.)(.+)(\.[a-z0-9_]+)")
_EVERYWHERE = frozenset({"all", "default", "lo"})


def read_key(path: Path | None) -> bytes:
    """Return the key in a file; a new one when there is no file, stored there if it has a name.

    Raises:
        QueryError: the file cannot be read or written, or is no key.
    """
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _stored(path)
    except OSError as exc:
        raise QueryError(f"the key {path} cannot be written: {exc.strerror}") from exc
    key = secrets.token_bytes(KEY_BYTES).hex().encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
    return key  # as it is read again


def _stored(path: Path) -> bytes:
    try:
        content = path.read_bytes().strip()
    except OSError as exc:
        raise QueryError(f"the key {path} cannot be read: {exc.strerror}") from exc
    if len(content) < _LEAST:
        raise QueryError(f"{path} is no key: it has less than {_LEAST} bytes")
    return content if len(content) <= _MOST else hashlib.blake2b(content).digest()


class Names:
    """Makes pseudonyms.

    Attributes:
        replaced: what was replaced, by original; for texts in which names may stand.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(b"names", key=key, digest_size=32).digest()
        self.replaced: dict[str, str] = {}
        self._digest = lru_cache(maxsize=1 << 16)(self._make)

    def _make(self, kind: str, text: str) -> str:
        label = kind.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(label, key=self._key, digest_size=16).hexdigest()

    def digest(self, kind: str, text: str) -> str:
        """Return 32 hexadecimal digits that stand for an identifier."""
        if text:
            self.replaced[text] = self._digest(kind, text)
        return self._digest(kind, text) if text else ""

    def number(self, kind: str, value: int, size: int) -> int:
        """Return a number below `size` that stands for `value`."""
        return int(self._digest(kind, str(value)), 16) % size

    def _name(self, prefix: str, kind: str, text: str) -> str:
        made = f"{prefix}-{self._digest(kind, text)[:8]}"
        self.replaced[text] = made
        return made

    def host(self, text: str) -> str:
        """Return what stands for the name of a host."""
        return self._name("host", "host", text) if text else ""

    def process(self, text: str) -> str:
        """Return what stands for a process; the kernel's own threads stay."""
        return text if _KERNEL.fullmatch(text) else self._name("proc", "process", text)

    def container(self, text: str) -> str:
        """Return what stands for a container or unit."""
        return self._name("cont", "container", text)

    def user(self, text: str) -> str:
        """Return what stands for the name of a user."""
        return text if text == "root" else self._name("user", "user", text)

    def device(self, text: str) -> str:
        """Return what stands for a network interface; the loopback stays."""
        return text if text == "lo" else self._name("if", "device", text)

    def namespace(self, text: str) -> str:
        """Return what stands for a network namespace; that of the host stays."""
        return text if text == "host" else self._name("ns", "namespace", text)

    def mark(self, text: str) -> str:
        """Return what stands for the text of a mark."""
        return self._name("mark", "mark", text)

    def cgroup(self, path: str) -> str:
        """Return a path of the same shape; slices that every host has, and endings, stay."""
        return "/".join(self._part(part) for part in path.split("/"))

    def _part(self, part: str) -> str:
        if not part or part in _SLICES:
            return part
        unit = _UNIT.fullmatch(part)
        return self._name("cg", "cgroup", part) + (unit[1] if unit else "")

    def setting(self, text: str) -> str:
        """Return the name of a kernel setting with the interface in it replaced."""
        match = _SETTING.fullmatch(text)
        if match is None or match[2] in _EVERYWHERE:
            return text
        return match[1] + self.device(match[2].replace("/", ".")) + match[3]

    def scrub(self, text: str) -> str:
        """Replace every name that was replaced before, where it stands as a word."""
        known = sorted((n for n in self.replaced if n.strip()), key=len, reverse=True)
        if not known:
            return text
        words = "|".join(re.escape(word) for word in known)
        pattern = re.compile(rf"(?<![\w.-])(?:{words})(?![\w-])")
        return pattern.sub(lambda match: self.replaced[match[0]], text)
