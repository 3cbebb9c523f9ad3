"""Reading files that others may have put where the recorder looks.

The recorder may read everything, and must not be held up or misled: what is not a plain file of a
sensible size, or lies behind a link that a user made, is not read.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MOST_BYTES = 4 << 20
_MOST_PLACES = 1000
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# include/uapi/linux/openat2.h; the number is the same on all architectures but alpha.
_OPENAT2 = 437
_NO_XDEV, _NO_SYMLINKS, _BENEATH = 0x01, 0x04, 0x08
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def read_system_file(path: Path) -> bytes:
    """Return the content of a file in folders that belong to the system.

    Raises:
        OSError: it cannot be read, is not a plain file, or is too large.
    """
    return _content(os.open(path, _FLAGS), None)


def read_of_users(places: Path, inner: str) -> Iterator[bytes]:
    """Yield the files that users have at the same place each.

    Args:
        places: the system's folder with a folder for each user, such as /home.
        inner: where the file is in each of those. No link and no mount is followed on the way, and
            the file belongs to whom the folder belongs to, or to root.
    """
    try:
        with os.scandir(places) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_PLACES))
    except OSError:
        return
    for name in names:
        try:
            folder = os.open(places / name, _FOLDER)
        except OSError:
            continue
        try:
            content = _content(_open_beneath(folder, inner), os.fstat(folder).st_uid)
        except OSError:
            continue
        finally:
            os.close(folder)
        yield content


def _open_beneath(folder: int, inner: str) -> int:
    """Open a file below `folder` (openat2(2), since Linux 5.6)."""
    how = _How(_FLAGS, 0, _NO_XDEV | _NO_SYMLINKS | _BENEATH)
    descriptor = _libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(folder),
        ctypes.c_char_p(os.fsencode(inner)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), inner)
    return int(descriptor)


def _content(descriptor: int, user: int | None) -> bytes:
    """Read all of a plain file, of `user` or root unless None, and close it."""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (user is not None and found.st_uid not in (0, user)):
            raise OSError("not a plain file of the owner of its folder")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MOST_BYTES:
        raise OSError("too large")
    return content
