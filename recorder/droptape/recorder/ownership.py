"""Whom a recording belongs to: not only root should be able to read it."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from pathlib import Path

from .options import UsageError


@dataclass(frozen=True, slots=True)
class Ownership:
    """A user and a group by number; None leaves it as it is."""

    uid: int | None = None
    gid: int | None = None

    def open_to_group(self, folder: Path) -> None:
        """Let the group read what is in `folder`, which is new, and all that will be made in it."""
        if self.gid is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, -1, self.gid, follow_symlinks=False)
            # New files and folders take the group of a folder with this bit.
            folder.chmod(0o2750)

    def hand_over(self, folder: Path) -> None:
        """Give everything in `folder` to the user, when nothing is written to it any more.

        Until now the folder and all in it belonged to this process's user, so nobody can have put
        a link there.
        """
        if self.uid is None:
            return
        for path in (*folder.rglob("*"), folder):
            os.chown(path, self.uid, -1, follow_symlinks=False)


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
        except KeyError as exc:
            raise UsageError(f"there is no group {group!r} on this host") from exc
    return Ownership(uid, gid)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
