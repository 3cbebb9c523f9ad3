"""Giving memory back."""

from __future__ import annotations

import subprocess
import sys

from droptape.recorder.memory import code

_PROGRAM = """
from pathlib import Path
import numpy, pyarrow.parquet
from droptape.recorder import memory

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0])

before = resident()
memory.give_back()
after = resident()
table = pyarrow.table({"a": numpy.arange(1000)})
assert table["a"].to_pylist() == list(range(1000))
print(before, after)
"""

_SMAPS = """\
1000-2000 r-xp 00000000 fe:00 77 /usr/lib/code.so
Rss:                   4 kB
Anonymous:             0 kB
2000-3000 r--p 00001000 fe:00 77 /usr/lib/code.so
Anonymous:             4 kB
3000-4000 rw-p 00002000 fe:00 77 /usr/lib/code.so
Anonymous:             0 kB
4000-5000 r--p 00003000 fe:00 77 /usr/lib/with a space.so
Anonymous:             0 kB
5000-6000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
6000-7000 r--s 00000000 00:0e 1061 anon_inode:bpf-map
Anonymous:             0 kB
7000-8000 r--p 00000000 fe:00 78 /data/of/another.thread
Anonymous:             0 kB
"""


def test_code_that_ran_once_is_not_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after < before * 0.6


def test_nothing_that_was_written_is_given_back() -> None:
    assert list(code(_SMAPS)) == [(0x1000, 0x2000), (0x4000, 0x5000)]
