"""The command `droptape`."""

from __future__ import annotations

import importlib.util
import os
import sys

_EXTRA = ("duckdb", "rich", "typer")


def main() -> None:
    """Run the command line; exit code 0, or 2 when there is no answer."""
    missing = [module for module in _EXTRA if importlib.util.find_spec(module) is None]
    if missing:
        print(
            f"droptape: {', '.join(missing)} not installed: pip install 'droptape[analyze]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from .app import app
    from .errors import DroptapeError, OutputClosed

    try:
        app()
    except DroptapeError as exc:
        print(f"droptape: {exc}", file=sys.stderr)
        sys.exit(2)
    except OutputClosed:
        # The reader has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
