"""What goes wrong is told once, and when it is over."""

from __future__ import annotations

import errno
import io

from droptape.recorder.announce import Announcer


def test_trouble_is_told_once_and_its_end_too() -> None:
    out = io.StringIO()
    announcer = Announcer(out)
    assert announcer.update("", 0, 1.0) == ""
    announcer.update("/rec: No space left on device; 1 MB kept in memory", 0, 2.0)
    announcer.update("/rec: No space left on device; 9 MB kept in memory", 700, 3.0)
    announcer.update("", 700, 4.0)
    announcer.update("/rec: No space left on device; 1 MB kept in memory", 1200, 5.0)
    announcer.update("", 1200, 14.9)
    assert out.getvalue() == (
        "droptape-record: /rec: No space left on device; 1 MB kept in memory\n"
    )
    announcer.update("", 1200, 15.1)
    announcer.update("", 1200, 30.0)
    assert out.getvalue().splitlines()[1:] == [
        "droptape-record: recording to disk goes on; 1,200 events were lost meanwhile"
    ]
    announcer.update("/rec: No space left on device", 1300, 40.0)
    announcer.update("", 1300, 60.0)
    assert out.getvalue().splitlines()[3].endswith("goes on; 100 events were lost meanwhile")


class _Full(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise OSError(errno.ENOSPC, "full")


def test_a_log_on_the_full_disk_is_no_more_trouble() -> None:
    assert "is full" in Announcer(_Full()).update("/rec is full", 0, 1.0)
