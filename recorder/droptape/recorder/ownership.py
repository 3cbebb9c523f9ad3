"""Whom a recording belongs to: not only root should be able to read it."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from pathlib import Path

from droptape.format.layout import LOCK, MANIFEST

from .options import UsageError

_NO_NUMBER = 2**32 - 1  # (uid_t) -1, and no number of a user or group is larger


@dataclass(frozen=True, slots=True)
class Ownership:
    """A user and a group by number; None leaves it as it is."""

    uid: int | None = None
    gid: int | None = None

    def hand_over(self, folder: Path) -> None:
        """Give `folder`, which is new, to the user with all in it, and let the group read it.

        It is opened without following a link, so nobody can have another put in its place. Where it
        belongs to somebody else, as on file systems without owners, so do its files.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self.gid is not None or self.uid is not None:
                self._chown(descriptor)
            if self.gid is not None:
                # New files and folders take the group of a folder with this bit.
                os.fchmod(descriptor, 0o2750)
        finally:
            os.close(descriptor)

    def _chown(self, descriptor: int) -> None:
        uid, gid = (-1 if number is None else number for number in (self.uid, self.gid))
        ours = os.fstat(descriptor).st_uid == os.geteuid()
        try:
            for name in (LOCK, MANIFEST) if ours else ():
                os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
            os.fchown(descriptor, uid, gid)
        except PermissionError as exc:
            raise PermissionError(
                exc.errno,
                f"{exc.strerror}: only root and members of group {gid} can give it to that group"
                if self.uid is None
                else f"{exc.strerror}: it takes CAP_CHOWN to give it to user {uid}",
            ) from exc


def choose(group: str | None) -> Ownership:
    """Choose: `group` if it is given, and under sudo the user who called it.

    Raises:
        UsageError: there is no such group, or sudo's caller is none that can be.
    """
    uid = gid = None
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        uid, gid = _number("SUDO_UID"), _number("SUDO_GID")
    if group is not None:
        gid = _group_number(group)
    return Ownership(uid, gid)


def parse_group(text: str) -> str:
    """Return `text` if it is a group of this host, by name or number; UsageError otherwise."""
    _group_number(text)
    return text


def _group_number(group: str) -> int:
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        if gid >= _NO_NUMBER:
            raise KeyError(group)
    except (KeyError, ValueError) as exc:
        raise UsageError(f"there is no group {group!r} on this host") from exc
    return gid


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 10 or int(text) >= _NO_NUMBER:
        raise UsageError(f"{name} is {text[:20]!r}, which is no number that sudo gives: unset it")
    return int(text)
