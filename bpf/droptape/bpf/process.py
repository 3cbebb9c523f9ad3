"""The loader's process, apart from what is said to it.

This module imports little, so that the process can begin before its caller has imported the rest.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

# Unlike -m, this takes no module from the folder that the user happens to be in: that may belong
# to anybody, and the loader is root.
_RUN = """
import sys
sys.path = [place for place in sys.path if place]
import droptape.bpf.loader as loader
loader.main()
"""


class LoaderProcess:
    """A Python that runs `loader`, and waits for a request.

    Attributes:
        channel: to it.
        child: the process.
        errors: what it printed.
    """

    def __init__(self) -> None:
        """Start it; OSError when no process can be started."""
        self.channel, theirs = socket.socketpair()
        # In memory: a full disk, or a /tmp that cannot be written, is no reason not to record.
        self.errors = os.fdopen(os.memfd_create("droptape-loader"), "w+b")
        with theirs:
            self.child = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.errors,
                stderr=self.errors,
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, if it has not ended."""
        self.channel.close()
        self.child.kill()
        self.child.wait()
        self.errors.close()
