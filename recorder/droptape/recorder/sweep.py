"""Passes over everything that the kernel side knows, at the begin and the end of a recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from droptape.bpf import syscall
from droptape.bpf.client import Loaded
from droptape.bpf.kind import Sweep
from droptape.bpf.kinds import all_kinds

_AT_ONCE = 4096
"""Keys between two looks at the rings: the rows of so many fit into one."""


def sweep_first(loaded: Loaded, drain: Callable[[], object]) -> None:
    """Tell the kinds what was there before the recorder.

    Args:
        loaded: the programs.
        drain: called between the steps, to take what is in the rings.
    """
    for name in loaded.kinds:
        if sweep := all_kinds()[name].first:
            _run(loaded, name, sweep, drain)


def sweep_last(loaded: Loaded, drain: Callable[[], object]) -> None:
    """Have the kinds report what is still there.

    Args:
        loaded: the programs, which are still attached.
        drain: called between the steps, to take once what is in the rings. It must not wait for
            them to be empty: while events keep coming they never are.
    """
    for name in loaded.kinds:
        if sweep := all_kinds()[name].last:
            _run(loaded, name, sweep, drain)


def _run(loaded: Loaded, kind: str, sweep: Sweep, pause: Callable[[], object]) -> None:
    program = loaded.fds.get(f"program:{sweep.function}")
    if program is None:
        return
    try:
        _run_all(loaded.fds[f"map:{sweep.map}"], program, pause)
    except OSError as exc:
        # The rest of the recording is as good as ever; the manifest says what is missing.
        for probe in loaded.probes:
            if probe.name == f"{kind}/{sweep.function}":
                probe.attached, probe.note = False, f"the kernel refuses to run it: {exc.strerror}"


def _run_all(fd: int, program: int, pause: Callable[[], object]) -> None:
    shape = syscall.map_shape(fd)
    value = np.dtype((np.void, shape.value_bytes))
    keys, _ = syscall.map_items(fd, np.dtype("u8"), value, shape.entries)
    for number, key in enumerate(keys.tolist()):
        if number % _AT_ONCE == 0:
            pause()
        syscall.run(program, key)
    pause()
