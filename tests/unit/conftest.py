"""What holds for all tests without privilege."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no failure: how long one example takes is not judged.
settings.register_profile("droptape", deadline=None)
settings.load_profile("droptape")

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
