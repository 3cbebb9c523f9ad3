"""Whom a recording belongs to: not only root should be able to read it."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from pathlib import Path

from .options import UsageError

_NO_GROUP = 2**32 - 1  # (gid_t) -1, and no number is larger


@dataclass(frozen=True, slots=True)
class Ownership:
    """A user and a group by number; None leaves it as it is."""

    uid: int | None = None
    gid: int | None = None

    def hand_over(self, folder: Path) -> None:
        """Give `folder`, which is new and empty, to the user, and let the group read it.

        It is opened without following a link, so nobody can have another put in its place.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self.gid is not None or self.uid is not None:
                os.fchown(
                    descriptor,
                    -1 if self.uid is None else self.uid,
                    -1 if self.gid is None else self.gid,
                )
            if self.gid is not None:
                # New files and folders take the group of a folder with this bit.
                os.fchmod(descriptor, 0o2750)
        finally:
            os.close(descriptor)


def choose(group: str | None) -> Ownership:
    """Choose: `group` if it is given, and under sudo the user who called it.

    Raises:
        UsageError: there is no such group.
    """
    uid = gid = None
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        uid, gid = _number("SUDO_UID"), _number("SUDO_GID")
    if group is not None:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
            if gid >= _NO_GROUP:
                raise KeyError(group)
        except (KeyError, ValueError) as exc:
            raise UsageError(f"there is no group {group!r} on this host") from exc
    return Ownership(uid, gid)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
